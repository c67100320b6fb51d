"""Operations on tensors, under PyTorch's names: ``trtnet.cat`` is ``torch.cat``.

Each takes :class:`trtnet.Tensor` (and numbers, arrays or Parameters beside them), adds layers to
the tensor's network, and returns a Tensor. Each file exports what it defines with
:func:`trtnet.ops.operator.operator`.
"""

from typing import TYPE_CHECKING

from trtnet.exports import collected
from trtnet.ops.accumulate import *
from trtnet.ops.activation import *
from trtnet.ops.adaptive import *
from trtnet.ops.arranging import *
from trtnet.ops.assignment import *
from trtnet.ops.attention import *
from trtnet.ops.axes import *
from trtnet.ops.bitwise import *
from trtnet.ops.channels import *
from trtnet.ops.conv import *
from trtnet.ops.conv_transpose import *
from trtnet.ops.copying import *
from trtnet.ops.creation import *
from trtnet.ops.cumulative import *
from trtnet.ops.division import *
from trtnet.ops.einstein import *
from trtnet.ops.elementwise import *
from trtnet.ops.embedding import *
from trtnet.ops.embedding_bag import *
from trtnet.ops.exponential import *
from trtnet.ops.extremes import *
from trtnet.ops.floats import *
from trtnet.ops.getitem import *
from trtnet.ops.grid import *
from trtnet.ops.identity import *
from trtnet.ops.indexing import *
from trtnet.ops.joining import *
from trtnet.ops.linalg import *
from trtnet.ops.linear import *
from trtnet.ops.masked import *
from trtnet.ops.multihead import *
from trtnet.ops.nonzero import *
from trtnet.ops.norm import *
from trtnet.ops.normalize import *
from trtnet.ops.padding import *
from trtnet.ops.pooling import *
from trtnet.ops.recurrent import *
from trtnet.ops.reduction import *
from trtnet.ops.resize import *
from trtnet.ops.scatter import *
from trtnet.ops.shape import *
from trtnet.ops.shrinkage import *
from trtnet.ops.similarity import *
from trtnet.ops.softmax import *
from trtnet.ops.sorting import *
from trtnet.ops.steps import *
from trtnet.ops.tensor_products import *
from trtnet.ops.trigonometry import *
from trtnet.ops.unfolding import *
from trtnet.ops.variance import *
from trtnet.ops.vector_norms import *

if not TYPE_CHECKING:  # type checkers follow the imports above
    __all__ = collected(globals())
