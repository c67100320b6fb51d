"""``torch.utils``: ``checkpoint``; other names are PyTorch's."""

from trtnet.host.names import delegate
from trtnet.utils import checkpoint as checkpoint

__getattr__ = delegate(__name__, "torch.utils")
