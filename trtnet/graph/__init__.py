"""Networks as plain data: read back from TensorRT, stored, checked, costed and compared.

The names of :mod:`trtnet.analysis` are imported on first use: that room needs the reference and
the plugins, which themselves need this one.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
