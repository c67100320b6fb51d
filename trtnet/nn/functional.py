"""``torch.nn.functional``'s names. Dropout does nothing here."""

from typing import TYPE_CHECKING, Any

from trtnet.errors import UsageError
from trtnet.exports import collected
from trtnet.host import pytorch
from trtnet.host.names import absent, host_function
from trtnet.ops.activation import *
from trtnet.ops.adaptive import *
from trtnet.ops.attention import *
from trtnet.ops.channels import *
from trtnet.ops.conv import *
from trtnet.ops.conv_transpose import *
from trtnet.ops.embedding import *
from trtnet.ops.embedding_bag import *
from trtnet.ops.grid import *
from trtnet.ops.identity import *
from trtnet.ops.inplace import FUNCTIONAL
from trtnet.ops.linear import *
from trtnet.ops.multihead import *
from trtnet.ops.norm import *
from trtnet.ops.normalize import *
from trtnet.ops.padding import *
from trtnet.ops.pooling import *
from trtnet.ops.resize import *
from trtnet.ops.shrinkage import *
from trtnet.ops.similarity import *
from trtnet.ops.softmax import *
from trtnet.ops.unfolding import *

if not TYPE_CHECKING:  # type checkers follow the imports above
    _helpers = ("Any", "UsageError", "absent", "host_function", "pytorch")
    __all__ = [
        name
        for name in collected(globals(), _helpers)
        if not name.endswith("_") or name.removesuffix("_") in FUNCTIONAL
    ]


def __getattr__(name: str) -> Any:
    """Functions of PyTorch that trtnet lacks, for values of the host."""
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(pytorch().nn.functional, name, None)
    except UsageError:
        found = None
    if not callable(found):
        raise absent("trtnet", f"torch.nn.functional.{name}", sorted(globals()))
    return host_function(name, found)
