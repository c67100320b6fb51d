"""``torch.nn.utils``: normalized weights, which are computed when a network is defined."""

from trtnet.host.names import delegate
from trtnet.nn.utils import parametrizations as parametrizations
from trtnet.nn.utils import parametrize as parametrize
from trtnet.nn.utils.older import remove_spectral_norm as remove_spectral_norm
from trtnet.nn.utils.older import remove_weight_norm as remove_weight_norm
from trtnet.nn.utils.older import spectral_norm as spectral_norm
from trtnet.nn.utils.older import weight_norm as weight_norm

# Clipping of gradients, packed sequences and the like: PyTorch's own.
__getattr__ = delegate(__name__, "torch.nn.utils")
