"""One page that shows a network to the bottom: modules, costs, precision, memory, provenance."""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
