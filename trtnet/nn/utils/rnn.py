"""``torch.nn.utils.rnn``: PyTorch's own, which refuses tensors of a network."""

from trtnet.host.names import delegate

__getattr__ = delegate(__name__, "torch.nn.utils.rnn")
