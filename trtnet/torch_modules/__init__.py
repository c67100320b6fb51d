"""Unmodified ``torch.nn.Module``s as trtnet modules.

* ``conversion.py``: :func:`trtnet.from_torch`, the tree of modules.
* ``copying.py``: a private copy of the PyTorch module that shares its tensors.
* ``tracing.py``: what runs while PyTorch's code defines layers; ``traced.py`` and ``sizes.py``: the
  tensors and the sizes that this code sees.
"""
