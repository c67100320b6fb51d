"""``torch.autograd``, for code that was written for PyTorch: its names are PyTorch's."""

from typing import Any

from trtnet.host import as_host
from trtnet.host.names import delegate


class Variable:
    """``torch.autograd.Variable``: gives the tensor itself."""

    def __new__(cls, data: Any = None, requires_grad: bool = False, volatile: bool = False) -> Any:
        """`data`."""
        return as_host(data)


__getattr__ = delegate(__name__, "torch.autograd")
