"""Network: one ``INetworkDefinition`` being filled, and what keeps its names, casts and scales.

Parts are imported when they are first asked for: ``__init__.pyi`` lists the names.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
