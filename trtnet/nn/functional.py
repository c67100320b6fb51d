"""``torch.nn.functional``'s names. ``inplace``, ``training`` and dropout do nothing here."""

from typing import TYPE_CHECKING, Any

from trtnet.errors import UsageError
from trtnet.exports import collected
from trtnet.host import pytorch
from trtnet.host.names import absent, host_function
from trtnet.ops.activation import *
from trtnet.ops.adaptive import *
from trtnet.ops.attention import *
from trtnet.ops.conv import *
from trtnet.ops.conv_transpose import *
from trtnet.ops.identity import *
from trtnet.ops.linear import *
from trtnet.ops.norm import *
from trtnet.ops.normalize import *
from trtnet.ops.padding import *
from trtnet.ops.pooling import *
from trtnet.ops.resize import *

if not TYPE_CHECKING:  # type checkers follow the imports above
    __all__ = collected(globals(), ("Any", "UsageError", "absent", "host_function", "pytorch"))


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
