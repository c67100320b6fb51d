"""``torch.nn``'s names over TensorRT layers. Each file exports its classes with ``@export``."""

from typing import TYPE_CHECKING, Any

from trtnet.exports import collected
from trtnet.host.names import absent, delegate
from trtnet.module import Buffer as Buffer
from trtnet.module import Module as Module
from trtnet.module import ModuleDict as ModuleDict
from trtnet.module import ModuleList as ModuleList
from trtnet.module import Parameter as Parameter
from trtnet.module import ParameterDict as ParameterDict
from trtnet.module import ParameterList as ParameterList
from trtnet.module import Sequential as Sequential
from trtnet.nn import functional as functional
from trtnet.nn import init as init
from trtnet.nn import modules as modules
from trtnet.nn import parameter as parameter
from trtnet.nn import utils as utils
from trtnet.nn.activation import *
from trtnet.nn.adaptive import *
from trtnet.nn.attention import *
from trtnet.nn.channels import *
from trtnet.nn.conv import *
from trtnet.nn.conv_transpose import *
from trtnet.nn.embedding import *
from trtnet.nn.lazy import *
from trtnet.nn.linear import *
from trtnet.nn.norm import *
from trtnet.nn.pooling import *
from trtnet.nn.recurrent import *
from trtnet.nn.resize import *
from trtnet.nn.shape import *
from trtnet.nn.shrinkage import *
from trtnet.nn.similarity import *
from trtnet.nn.softmax import *
from trtnet.nn.transformer import *
from trtnet.nn.unfolding import *

if not TYPE_CHECKING:  # type checkers follow the imports above
    __all__ = [
        *collected(globals(), ("Any", "absent", "delegate")),
        *("functional", "init", "modules", "parameter", "utils"),
    ]


_OF_PYTORCH = ("DataParallel", "common_types", "parallel", "grad")
_pytorch = delegate(__name__, "torch.nn")  # of training: losses and the like


def __getattr__(name: str) -> Any:
    if name.endswith("Loss") or name in _OF_PYTORCH:
        return _pytorch(name)
    raise absent("trtnet", f"torch.nn.{name}", sorted(globals()))
