"""``torch.nn.functional``'s names. ``inplace``, ``training`` and dropout do nothing here."""

from typing import TYPE_CHECKING

from trtnet.exports import collected
from trtnet.ops.activation import *
from trtnet.ops.adaptive import *
from trtnet.ops.attention import *
from trtnet.ops.channels import *
from trtnet.ops.conv import *
from trtnet.ops.conv_transpose import *
from trtnet.ops.grid import *
from trtnet.ops.identity import *
from trtnet.ops.linear import *
from trtnet.ops.norm import *
from trtnet.ops.normalize import *
from trtnet.ops.padding import *
from trtnet.ops.pooling import *
from trtnet.ops.resize import *
from trtnet.ops.unfolding import *

if not TYPE_CHECKING:  # type checkers follow the imports above
    __all__ = collected(globals())
