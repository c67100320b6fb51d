"""Layers of einops; see :mod:`trtnet.einops.layers.torch`."""
