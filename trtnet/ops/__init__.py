"""Operations on tensors, under PyTorch's names: ``trtnet.cat`` is ``torch.cat``.

Each takes :class:`trtnet.Tensor` (and numbers, arrays or Parameters beside them), adds layers to
the tensor's network, and returns a Tensor. Each file exports what it defines with
:func:`trtnet.ops.operator.operator`.
"""

from typing import TYPE_CHECKING

from trtnet.exports import collected
from trtnet.ops.activation import *
from trtnet.ops.adaptive import *
from trtnet.ops.attention import *
from trtnet.ops.conv import *
from trtnet.ops.conv_transpose import *
from trtnet.ops.creation import *
from trtnet.ops.elementwise import *
from trtnet.ops.identity import *
from trtnet.ops.indexing import *
from trtnet.ops.joining import *
from trtnet.ops.linalg import *
from trtnet.ops.linear import *
from trtnet.ops.norm import *
from trtnet.ops.normalize import *
from trtnet.ops.padding import *
from trtnet.ops.pooling import *
from trtnet.ops.reduction import *
from trtnet.ops.resize import *
from trtnet.ops.shape import *

if not TYPE_CHECKING:  # type checkers follow the imports above
    __all__ = collected(globals())
