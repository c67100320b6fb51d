"""Models built with ``trtnet.nn``. Importing this loads neither torch nor TensorRT, and each part
when it is first asked for: ``__init__.pyi`` lists the names.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
