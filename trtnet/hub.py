"""``torch.hub``, for code that was written for PyTorch: its names are PyTorch's."""

from trtnet.host.names import delegate

__getattr__ = delegate(__name__, "torch.hub")
