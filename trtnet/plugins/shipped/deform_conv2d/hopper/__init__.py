"""deform_conv2d in FP16 on Hopper GPUs: some warps sample while others multiply."""
