"""trtnet on Ray (the extra ``ray``): ``trtnet batch``, and a class for pipelines of one's own.

Names are imported on first use, so that this loads neither Ray nor torch.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
