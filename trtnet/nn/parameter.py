"""``torch.nn.parameter``."""

from trtnet.module import Buffer, Parameter

__all__ = ["Buffer", "Parameter"]
