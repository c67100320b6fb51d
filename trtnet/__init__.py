"""trtnet: PyTorch-like layers over TensorRT's network-definition API, with a model zoo.

Names are imported on first use, so that ``import trtnet`` loads neither torch nor TensorRT; they
are listed in ``__init__.pyi``.
"""

from trtnet import starting

starting.begin()  # before all else: an interrupt of a program from here on

from pathlib import Path  # noqa: E402

from trtnet import lazy_imports  # noqa: E402
from trtnet.reference.operations import register_operation  # noqa: E402

# `trtnet.zoo` and `trtnet.weights` are links to, or copies of, the folders zoo/ and weights/. In a
# clone that was never installed they are not there yet: the folders are found at its top.
_top = Path(__file__).resolve().parent.parent
if not Path(__file__).with_name("zoo").is_dir() and (_top / "zoo" / "registry.py").is_file():
    __path__.append(str(_top))

__getattr__, __dir__ = lazy_imports.from_stub(
    __name__,
    __file__,
    # Code that was written for PyTorch finds here what is no part of a network.
    beyond=lazy_imports.function("trtnet.torch_names", "attribute"),
)

# The reference imports no plugins: the function that computes their layers is registered here.
register_operation(
    "PLUGIN_V3", lazy_imports.function("trtnet.plugins.reference_operation", "plugin_operation")
)
