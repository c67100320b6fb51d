"""``torch.nn.modules.module``."""

from trtnet.module import Module

__all__ = ["Module"]
