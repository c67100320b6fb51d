"""Model repositories of the Triton Inference Server: what is written, and what runs in the server.

:func:`export` writes a repository. The other files are imported by the ``model.py`` of such a
repository, in the server's Python backend.

Names are imported on first use.
"""

from trtnet import lazy_imports

__getattr__, __dir__ = lazy_imports.from_stub(__name__, __file__)
