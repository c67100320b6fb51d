"""Real numbers, outside of any network: PyTorch's own arithmetic, imported when it is first needed.

Code that prepares weights, tables and positions (``torch.zeros``, ``linspace``, ``nn.init``)
computes numbers before there is a network. trtnet has no second implementation of that: the names
in :mod:`trtnet.torch_names` are PyTorch's, and operators that get no
:class:`trtnet.Tensor` and no :class:`trtnet.Dim` run PyTorch's function of the same name.
"""

from trtnet.host.calling import call_on_host, network_of
from trtnet.host.modes import without_gradients
from trtnet.host.pytorch import pytorch
from trtnet.host.values import as_array, as_host, as_torch, host_type

__all__ = [
    "as_array",
    "as_host",
    "as_torch",
    "call_on_host",
    "host_type",
    "network_of",
    "pytorch",
    "without_gradients",
]
