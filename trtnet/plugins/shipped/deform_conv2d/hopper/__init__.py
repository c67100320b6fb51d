"""Deformable convolution in FP16 on Hopper GPUs: sampling and multiplying at once."""
