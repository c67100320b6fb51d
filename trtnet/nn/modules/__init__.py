"""``torch.nn.modules``: the files in which PyTorch keeps its layers, as far as code names them."""

from trtnet.module import Module as Module
from trtnet.module import ModuleDict as ModuleDict
from trtnet.module import ModuleList as ModuleList
from trtnet.module import Sequential as Sequential
from trtnet.nn.activation import *
from trtnet.nn.conv import *
from trtnet.nn.linear import *
from trtnet.nn.modules import batchnorm as batchnorm
from trtnet.nn.modules import conv as conv
from trtnet.nn.modules import instancenorm as instancenorm
from trtnet.nn.modules import module as module
from trtnet.nn.modules import utils as utils
from trtnet.nn.norm import *
from trtnet.nn.pooling import *
from trtnet.nn.shape import *
