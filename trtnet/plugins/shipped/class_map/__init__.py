"""The class of every pixel, from logits at low resolution."""
