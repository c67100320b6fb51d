"""Flags people know from trtexec, or from later versions, that are answered instead of parsed."""

from __future__ import annotations

from collections.abc import Iterable

from trtnet.errors import UsageError

_HERE = "this version builds fp32, tf32, fp16 and bf16 engines with the backends tensorrt and rtx"

# Removed from TensorRT: what replaces them.
_REMOVED = {
    "--best": "networks are strongly typed: choose one of --fp16, --bf16, --noTF32",
    "--workspace": "use --memPoolSize=workspace:MiB",
    "--minTiming": "use --avgTiming",
    "--buildOnly": "leave it out: this program only builds and verifies",
    "--explicitBatch": "leave it out: batches are always explicit",
    "--calib": f"calibration caches went with implicit quantization; {_HERE}",
    "--safe": "leave it out: safety engines need NVIDIA's separate safety builder",
}
_LATER = ("--int8", "--fp8", "--calib-data", "--calibrator", "--policy")


def check_flags(argv: Iterable[str]) -> None:
    """Raises :class:`UsageError` at the first flag that is known, but not taken."""
    removed = {_fold(flag): flag for flag in _REMOVED}
    later = {_fold(flag): flag for flag in _LATER}
    for argument in argv:
        if argument == "--":
            return
        flag = _fold(argument.partition("=")[0])
        if flag in removed:
            name = removed[flag]
            raise UsageError(f"TensorRT has removed {name}", fix=_REMOVED[name])
        if flag in later:
            raise UsageError(f"{later[flag]} is not there yet", fix=_HERE)


def check_values(backend: str, precision: str | None) -> None:
    """Raises :class:`UsageError` for a backend or a precision of a later version."""
    if backend == "torch":
        raise UsageError("--backend torch is not there yet", fix=_HERE)
    if precision in ("int8", "fp8", "best"):
        raise UsageError(f"--precision {precision} is not there yet", fix=_HERE)


def _fold(flag: str) -> str:
    """Camel case and kebab case alike; anything that is not a flag is left alone."""
    return flag[2:].replace("-", "").lower() if flag.startswith("--") else flag
