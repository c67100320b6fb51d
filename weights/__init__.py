"""Weights on disk, from torchvision, timm and tensorrtx. Importing this needs only numpy.

Reading and writing files, and torchvision's weights, are in this package. ``convert`` and
``from_timm`` need the models of :mod:`trtnet.zoo`, ``extract`` needs :mod:`trtnet.pipeline`: they
are written there, above this package, and imported on first use. ``__init__.pyi`` has the types of
all names.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
