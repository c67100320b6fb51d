"""The backend ``torch``: networks defined with TensorRT's API and executed by PyTorch."""

from __future__ import annotations

from trtnet.backend.description import BackendDescription, OptionLack
from trtnet.backend.engine_format import EngineFormat, HeaderFields
from trtnet.extras import install


def _read_header(engine: bytes) -> HeaderFields | None:
    """Of a safetensors file: the size of its JSON header, then that header."""
    if engine[8:9] != b"{":
        return None
    return HeaderFields(nbytes=int.from_bytes(engine[:8], "little") + 8)


_WHERE_IT_RUNS = OptionLack(
    "its engine is the network itself; on a GPU it is built where it first runs",
    "leave it out here, and give --builderOptimizationLevel and --timingCacheFile to trtnet run, "
    "bench, classify, segment or detect (optimization_level= and timing_cache= of trtnet.Session)",
)

DESCRIPTION = BackendDescription(
    name="torch",
    title="PyTorch",
    package=None,
    distribution="torch",
    install=install("torch"),
    engine_format=EngineFormat(
        description="an archive of a network, in a safetensors file",
        read_header=_read_header,
        size="least",
    ),
    engine_loader="trtnet.engines.torch.loading:load_engine",
    devices=("cpu", "cuda"),
    writes_archive=True,
    runs_in_pytorch=True,
    lacks={
        "builder_optimization_level": _WHERE_IT_RUNS,
        "timing_cache_file": _WHERE_IT_RUNS,
    },
    lacks_all=OptionLack(
        "its engine is the network itself, which TensorRT's builder never sees",
        "leave it out, or choose the backend tensorrt or rtx",
    ),
    honours=frozenset({"refit", "refit_individual", "strip_weights"}),
    engine_refitter="trtnet.building.archive_refit:refit_archive",
)
