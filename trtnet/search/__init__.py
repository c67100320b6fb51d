"""Which modules a lower precision harms, and the fastest mix of precisions within a budget.

Names are imported on first use; running anything needs torch, plotting matplotlib.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
