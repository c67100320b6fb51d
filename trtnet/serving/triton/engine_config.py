"""The folder of an engine in a repository: its configuration, and the files beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence

from trtnet.building.plan import Plan
from trtnet.building.sidecar import StatedTensor
from trtnet.pipeline.image_session import SIZES
from trtnet.serving.triton.config_text import Enumerated, Field, text_of
from trtnet.serving.triton.repository import VERSION, ModelFolder
from trtnet.serving.triton.served import TENSORRT, TYPES, Served
from trtnet.serving.triton.settings import Settings

ENGINE = "model.engine"
"""The engine beside the ``model.py`` of the Python backend."""
_PLAN = "model.plan"
_LABELS = "labels.txt"
_TORCH = "torch"
_MOST_WARM_UP_BYTES = 1 << 28

MODEL_PY = '''"""Written by `trtnet export triton`, for Triton's Python backend."""

from trtnet.serving.triton.{module} import {name} as TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def engine_model(
    name: str, found: Served, plan: Plan, others: Mapping[str, Plan], settings: Settings
) -> ModelFolder:
    """The model that gives an engine's outputs.

    Args:
        name: of the model.
        found: what is known of the engine.
        plan: the engine.
        others: of TensorRT: the engines for GPUs of certain compute capabilities, such as
            ``"8.9"``; `plan` is for all others.
        settings: how it is served.
    """
    config: dict[str, Field] = {"name": name, **_backend(found), "max_batch_size": found.max_batch}
    files: dict[str, bytes] = {}
    labels = _labels(found, plan.described.class_names)
    if labels:
        files[_LABELS] = "".join(f"{each}\n" for each in labels).encode()
    config["input"] = [tensor_field(found, each) for each in found.inputs]
    config["output"] = [
        {
            **tensor_field(found, each),
            **({"label_filename": _LABELS} if labels and _is_of_classes(found, each) else {}),
        }
        for each in found.outputs
    ]
    config["instance_group"] = [_instances(found, settings)]
    if found.max_batch:
        config |= batcher(settings)
    config["model_warmup"] = [*_warm_ups(found)]
    if found.backend == TENSORRT:
        files[f"{VERSION}/{_PLAN}"] = plan.engine
        names = {capability: f"model-{capability}.plan" for capability in others}
        files |= {f"{VERSION}/{names[key]}": each.engine for key, each in others.items()}
        if names:
            config["cc_model_filenames"] = [{"key": k, "value": v} for k, v in names.items()]
    else:
        files[f"{VERSION}/{ENGINE}"] = plan.engine
        files[f"{VERSION}/{ENGINE}.json"] = sidecar_text(plan)
        code = MODEL_PY.format(module="engine_model", name="EngineModel")
        files[f"{VERSION}/model.py"] = code.encode()
    return ModelFolder(name, {"config.pbtxt": text_of(config).encode(), **files})


def tensor_field(found: Served, tensor: StatedTensor) -> dict[str, Field]:
    """An input or output of a configuration."""
    return io_field(tensor.name, TYPES[tensor.dtype], found.dims(tensor))


def io_field(name: str, kind: str, dims: Sequence[int]) -> dict[str, Field]:
    """An input or output of a configuration, of Triton's type `kind`."""
    return {"name": name, "data_type": Enumerated(kind), "dims": list(dims)}


def sidecar_text(plan: Plan) -> bytes:
    """The file of a sidecar."""
    return f"{json.dumps(plan.sidecar, indent=1, sort_keys=True, ensure_ascii=False)}\n".encode()


def batcher(settings: Settings) -> dict[str, Field]:
    """How requests are put together."""
    delay = settings.dynamic_batching
    if delay is None:
        return {}
    return {"dynamic_batching": {"max_queue_delay_microseconds": delay} if delay else {}}


def _backend(found: Served) -> dict[str, Field]:
    if found.backend == TENSORRT:
        return {"backend": TENSORRT}
    fields: dict[str, Field] = {"backend": "python"}
    if found.backend == _TORCH:  # which takes tensors on the GPU as they come
        choice: dict[str, Field] = {"string_value": "no"}
        fields["parameters"] = [{"key": "FORCE_CPU_ONLY_INPUT_TENSORS", "value": choice}]
    return fields


def _instances(found: Served, settings: Settings) -> dict[str, Field]:
    kind = "KIND_AUTO" if found.backend == _TORCH else "KIND_GPU"
    group: dict[str, Field] = {"count": settings.instances, "kind": Enumerated(kind)}
    if found.backend == TENSORRT and len(found.profiles) > 1:
        group["profile"] = [str(index) for index in range(len(found.profiles))]
    return group


def _warm_ups(found: Served) -> Iterator[dict[str, Field]]:
    """The smallest and the largest batch, of zeros, so that no client waits for what the first
    execution of these shapes costs. None of an engine that takes sizes of images: of empty images a
    detector may find boxes that are none, which a session refuses."""
    if any(each.name == SIZES for each in found.inputs):
        return
    batches = dict.fromkeys((1, found.max_batch)) if found.max_batch else {0: None}
    for batch in batches:
        inputs = [(each, found.typical(each)) for each in found.inputs]
        if sum(math.prod(dims) for _, dims in inputs) * max(batch, 1) * 8 > _MOST_WARM_UP_BYTES:
            continue
        yield {
            "name": f"batch of {batch}" if batch else "one request",
            "batch_size": batch,
            "inputs": [{"key": each.name, "value": _zeros(each, dims)} for each, dims in inputs],
        }


def _zeros(tensor: StatedTensor, dims: Sequence[int]) -> Mapping[str, Field]:
    kind = Enumerated(TYPES[tensor.dtype])
    return {"data_type": kind, "dims": list(dims), "zero_data": True}


def _is_of_classes(found: Served, tensor: StatedTensor) -> bool:
    return len(tensor.shape) == 2 and tensor.dtype in ("float32", "float16")


def _labels(found: Served, names: Sequence[str] | None) -> Sequence[str]:
    """The names of the classes, where an output has a score for each, and a line can hold them."""
    counts = {each.shape[1] for each in found.outputs if _is_of_classes(found, each)}
    fits = names is not None and counts == {len(names)}
    return names if fits and names and all(each.splitlines() == [each] for each in names) else ()
