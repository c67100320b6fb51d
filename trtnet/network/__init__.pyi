"""One ``INetworkDefinition`` being filled; see ``__init__.py``."""

from .forms import FORMS as FORMS
from .network import Network as Network
