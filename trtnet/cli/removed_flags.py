"""Flags that trtexec had and TensorRT has removed: what replaces them."""

from __future__ import annotations

from collections.abc import Iterable

from trtnet.errors import UsageError

_REMOVED = {
    "--best": "networks are strongly typed: choose one of --fp16, --bf16, --noTF32",
    "--workspace": "use --memPoolSize=workspace:MiB",
    "--minTiming": "use --avgTiming",
    "--buildOnly": "leave it out: this program only builds and verifies",
    "--explicitBatch": "leave it out: batches are always explicit",
    "--calib": "calibration caches went with implicit quantization: use --calib-table",
    "--safe": "leave it out: safety engines need NVIDIA's separate safety builder",
}


def refuse_removed_flags(argv: Iterable[str]) -> None:
    """Raises :class:`UsageError` at the first flag in `argv` that TensorRT has removed."""
    removed = {_fold(flag): flag for flag in _REMOVED}
    for argument in argv:
        if argument == "--":
            return
        flag = _fold(argument.partition("=")[0])
        if flag in removed:
            name = removed[flag]
            raise UsageError(f"TensorRT has removed {name}", fix=_REMOVED[name])


def _fold(flag: str) -> str:
    """Camel case and kebab case alike; anything that is not a flag is left alone."""
    return flag[2:].replace("-", "").lower() if flag.startswith("--") else flag
