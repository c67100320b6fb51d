"""Network: one ``INetworkDefinition`` being filled, and what keeps its names, casts and scales."""

from trtnet.network.network import FORMS, Network

__all__ = ["FORMS", "Network"]
