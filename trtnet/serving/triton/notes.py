"""What a server needs to serve an exported model, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from trtnet.building.plan import Plan
from trtnet.engines.compatibility import outlives_its_release
from trtnet.serving.triton.served import TENSORRT
from trtnet.serving.triton.settings import Settings
from trtnet.version import __version__

_EXTRAS = {"torch": ("torch",), "rtx": ("rtx", "cuda")}  # of what the Python backend runs


def notes_for(plan: Plan, settings: Settings) -> Iterator[str]:
    """One sentence or two for each need."""
    told = plan.described
    backend = told.backend
    version = backend.version if backend else None
    if backend is not None and backend.name == TENSORRT:
        if outlives_its_release(plan):
            yield (
                f"The engine was built by TensorRT {version} as version compatible: start the "
                "server with --backend-config=tensorrt,version-compatible=true. It then runs the "
                "code of a runtime that is in the engine."
            )
        else:
            yield (
                f"The engine was built by TensorRT {version} and loads in this version only: take "
                "the container of Triton that has it, see NVIDIA's support matrix, or build with "
                "--versionCompatible."
            )
        if settings.dynamic_batching is None:
            yield (
                "The tensorrt backend turns its dynamic batcher on by itself; "
                "--disable-auto-complete-config of the server leaves it off."
            )
    extras = [*(_EXTRAS.get(backend.name or "", ()) if backend else ())]
    extras += ["images"] * settings.ensemble
    if extras:
        yield (
            f"Triton's Python backend needs trtnet {__version__} with the extras "
            f"{', '.join(extras)} in the server's Python environment; Triton up to 2.51 needs "
            "numpy below version 2 there, and answers with empty outputs otherwise."
        )
