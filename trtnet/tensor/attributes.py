"""Attributes of PyTorch's tensors that follow from sizes and types, or mean nothing here."""

from __future__ import annotations

from typing import Any

from trtnet.errors import ShapeError
from trtnet.tensor.conversion import name_of_type, type_named


class Attributes:
    """Methods of :class:`trtnet.Tensor`."""

    __slots__ = ()

    def numel(self: Any) -> Any:
        """Number of elements: an int, or a Dim where a size is known only at run time."""
        count: Any = 1
        for size in self.shape:
            count = count * size
        return count

    nelement = numel

    def element_size(self: Any) -> int:
        """Size of one element in bytes."""
        return int(self.dtype.element.bits) // 8

    def type(self: Any, dtype: Any = None, non_blocking: bool = False) -> Any:
        """Cast to a type, a legacy type such as ``torch.FloatTensor`` or its name. Without one:
        the name of the legacy type."""
        return name_of_type(self.dtype) if dtype is None else self.to(type_named(dtype))

    def ndimension(self: Any) -> int:
        """Number of axes."""
        return int(self.ndim)

    @property
    def is_cuda(self: Any) -> bool:
        """Whether :attr:`device` is a GPU of PyTorch: ``False``."""
        return False

    is_sparse = is_quantized = is_nested = is_mkldnn = is_meta = is_cuda

    @property
    def grad(self: Any) -> None:
        """``None``: nothing is trained here."""
        return None

    grad_fn = grad

    @property
    def is_leaf(self: Any) -> bool:
        """``True``: there are no gradients."""
        return True

    def is_complex(self: Any) -> bool:
        """``False``: TensorRT has no complex numbers."""
        return False

    @property
    def requires_grad(self: Any) -> bool:
        """``False``: nothing is trained here."""
        return False

    def requires_grad_(self: Any, requires_grad: bool = True) -> Any:
        """Itself: nothing is trained here."""
        return self

    @property
    def T(self: Any) -> Any:  # noqa: N802  (PyTorch's name)
        """All axes in reverse order."""
        return self.permute(*reversed(range(self.ndim)))

    @property
    def mT(self: Any) -> Any:  # noqa: N802  (PyTorch's name)
        """The last two axes swapped."""
        if self.ndim < 2:
            raise ShapeError("mT needs at least two axes", got=self.shape)
        return self.transpose(-2, -1)

    @property
    def H(self: Any) -> Any:  # noqa: N802  (PyTorch's name)
        """The transpose of a matrix; here there are only real numbers."""
        if self.ndim != 2:
            raise ShapeError("H needs a matrix; use mT for batches of them", got=self.shape)
        return self.transpose(0, 1)

    def is_contiguous(self: Any, memory_format: Any = None) -> bool:
        """``True``: TensorRT decides memory layout."""
        return True

    def cpu(self: Any, memory_format: object = None) -> Any:
        """Itself: devices mean nothing here."""
        return self

    def cuda(
        self: Any, device: object = None, non_blocking: object = False, memory_format: object = None
    ) -> Any:
        """Itself: devices mean nothing here."""
        return self
