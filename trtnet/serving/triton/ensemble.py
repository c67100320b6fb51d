"""The models beside an engine that make an ensemble of it: encoded images in, answers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trtnet.building.plan import Plan
from trtnet.building.sidecar import StatedTensor
from trtnet.detection.formats import FOUR, ROWS
from trtnet.detection.reading import (
    COEFFICIENTS,
    KEYPOINTS,
    MASKS,
    POINTS,
    PROTOTYPES,
    SUPPRESSED,
    format_of,
    places_of,
    require_further_fit,
)
from trtnet.errors import UnsupportedError, UsageError
from trtnet.imaging.preprocessing import Preprocessing
from trtnet.pipeline.image_session import SIZES
from trtnet.pipeline.preprocessing import preparation_of
from trtnet.serving.triton.config_text import Enumerated, Field, text_of
from trtnet.serving.triton.engine_config import (
    MODEL_PY,
    io_field,
    sidecar_text,
    tensor_field,
)
from trtnet.serving.triton.repository import VERSION, ModelFolder
from trtnet.serving.triton.served import MORE_BATCHES, Served
from trtnet.serving.triton.settings import Settings
from trtnet.tasks.classifier import scores_of
from trtnet.tasks.segmenter import map_output

IMAGE, PLACEMENT = "image", "placement"
"""The ensemble's input, and where in the engine's input each image is, int32 (n, 8)."""
SIDECAR = "sidecar.json"
"""The engine's sidecar, beside the ``model.py`` of a step."""
SUFFIXES = ("_prepare", "_answer", "_images")
"""Of the names of the steps and the ensemble, after the engine's."""

FURTHER = (MASKS, COEFFICIENTS, PROTOTYPES, KEYPOINTS, POINTS)
"""Outputs of detectors beside boxes."""
_LEVELS = "uint8"
_TOP = 5
_MOST_CLASSES = 256  # of a picture with 8 bits for each pixel


@dataclass(frozen=True)
class Answer:
    """What an ensemble gives.

    Attributes:
        step: the class in :mod:`trtnet.serving.triton.image_steps` that makes it.
        reads: names of the engine's outputs.
        outputs: of the ensemble: name, type, shape without the batch.
    """

    step: str
    reads: tuple[str, ...]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]


def ensemble_models(
    name: str, found: Served, plan: Plan, settings: Settings
) -> tuple[ModelFolder, ...]:
    """The models beside that of the engine `name`, the ensemble last.

    Args:
        name: of the engine's model.
        found: what is known of the engine.
        plan: the engine.
        settings: how it is served.

    Raises:
        UsageError: the engine takes no images, or gives no answers; nothing says how images are
            prepared.
        UnsupportedError: no batch, or too many classes for a picture.
    """
    if not found.max_batch:
        raise UnsupportedError(
            "an ensemble needs an engine whose batch may vary",
            expected="a dynamic batch as the first axis of every input and output",
            fix=MORE_BATCHES,
        )
    _require_images(found.inputs)
    if PLACEMENT in {each.name for each in (*found.inputs, *found.outputs)}:
        raise UsageError(f"an ensemble has a tensor {PLACEMENT!r} of its own",
                         fix="name the engine's differently")  # fmt: skip
    stated = preparation_of(plan, found.inputs[0], found.profiles).stated
    if found.inputs[0].dtype == _LEVELS:
        _require_levels(stated)
    answer = answer_of(found, plan.described.class_names)
    step, last, whole = (f"{name}{suffix}" for suffix in SUFFIXES)
    placed = io_field(PLACEMENT, "TYPE_INT32", (8,))
    given = [io_field(*output) for output in answer.outputs]
    prepared = [tensor_field(found, each) for each in found.inputs]
    engine_outputs = [tensor_field(found, each) for each in found.outputs]
    read = [field for field in engine_outputs if field["name"] in answer.reads]
    return (
        _step(step, "PrepareImages", plan, found, settings,
              [io_field(IMAGE, "TYPE_STRING", (1,))], [*prepared, placed]),
        _step(last, answer.step, plan, found, settings, [*read, placed], given),
        ModelFolder(whole, {"config.pbtxt": text_of({
            "name": whole,
            "platform": "ensemble",
            "max_batch_size": found.max_batch,
            "input": [io_field(IMAGE, "TYPE_STRING", (1,))],
            "output": given,
            "ensemble_scheduling": {"step": [
                _stage(step, {IMAGE: IMAGE}, _within([*_names(prepared), PLACEMENT])),
                _stage(name, _within(_names(prepared)), _within(answer.reads)),
                _stage(last, _within([*answer.reads, PLACEMENT]), {n: n for n in _names(given)}),
            ]},
        }).encode()}),
    )  # fmt: skip


def answer_of(found: Served, names: Sequence[str] | None) -> Answer:
    """What an ensemble of the engine gives, by the engine's outputs.

    Raises:
        UsageError: they are no scores of classes, classes of pixels, or detections.
        UnsupportedError: more classes than a picture of 8 bits holds.
    """
    shapes = {each.name: each.shape for each in found.outputs}
    layout = format_of(shapes)
    if layout in SUPPRESSED:
        most = places_of({name: shape[1:] for name, shape in shapes.items()})
        require_further_fit(shapes)
        further = tuple(name for name in FURTHER if name in shapes)
        points = next((shapes[name][2] for name in (POINTS, KEYPOINTS) if name in shapes), None)
        has_masks = MASKS in shapes or COEFFICIENTS in shapes
        return Answer("PlaceBoxes", (*(FOUR if layout == "efficientnms" else (ROWS,)), *further), (
            ("num_dets", "TYPE_INT32", (1,)),
            ("boxes", "TYPE_FP32", (most, 4)),
            ("scores", "TYPE_FP32", (most,)),
            ("classes", "TYPE_INT32", (most,)),
            ("class_names", "TYPE_STRING", (most,)),
            *([("masks", "TYPE_STRING", (most,))] if has_masks else []),
            *([("keypoints", "TYPE_FP32", (most, points, 3))] if points is not None else []),
        ))  # fmt: skip
    if layout is None and any(len(shape) in (3, 4) for shape in shapes.values()):
        output = map_output(found.outputs)
        shape = shapes[output]
        count = shape[1] if len(shape) == 4 else len(names) if names else _MOST_CLASSES
        if not 0 < count <= _MOST_CLASSES:
            raise UnsupportedError("a picture of 8 bits holds the numbers of 256 classes",
                                   module=output, got=count)  # fmt: skip
        return Answer("PaintClasses", (output,), (
            ("mask", "TYPE_STRING", (1,)),
            ("shares", "TYPE_FP32", (count,)),
        ))  # fmt: skip
    output = scores_of(found.outputs)
    count = min(_TOP, shapes[output][1]) if shapes[output][1] > 0 else _TOP
    return Answer("NameClasses", (output,), (
        ("class_names", "TYPE_STRING", (count,)),
        ("probabilities", "TYPE_FP32", (count,)),
        ("classes", "TYPE_INT32", (count,)),
    ))  # fmt: skip


def _require_images(inputs: Sequence[StatedTensor]) -> None:
    first, *others = inputs
    is_image = len(first.shape) == 4 and first.dtype in ("float32", "float16", _LEVELS)
    if is_image and all((o.name, o.dtype, o.shape[1:]) == (SIZES, "int32", (2,)) for o in others):
        return
    raise UsageError(
        "the engine does not take images, as an ensemble needs",
        expected=f"one input (N, channels, height, width), float32, float16 or {_LEVELS}; after it "
        f"perhaps {SIZES} (N, 2), int32",
        got=", ".join(f"{each.name} {each.dtype} {each.shape}" for each in inputs),
        fix="leave --ensemble (ensemble=) out",
    )


def _require_levels(stated: Preprocessing) -> None:
    """Refuses values for an engine of bytes that are no whole levels from 0 to 255."""
    plain = (1.0, {0.0}, {1.0}, True)
    if (stated.factor, {*stated.means}, {*stated.divisors}, stated.rounding) != plain:
        raise UsageError(
            f"the engine takes levels as {_LEVELS}, and normalises them itself",
            expected="a preprocessing with scale 1, mean 0, std 1 and rounding",
            got=str(stated),
            fix="--preprocess raw, and --resize-size or others for the size (preprocess=)",
        )


def _step(
    name: str,
    kind: str,
    plan: Plan,
    found: Served,
    settings: Settings,
    inputs: Sequence[Field],
    outputs: Sequence[Field],
) -> ModelFolder:
    """The folder of a step, which runs on the CPU."""
    config: dict[str, Field] = {
        "name": name,
        "backend": "python",
        "max_batch_size": found.max_batch,
        "input": inputs,
        "output": outputs,
        "instance_group": [{"count": settings.instances, "kind": Enumerated("KIND_CPU")}],
    }
    code = MODEL_PY.format(module="image_steps", name=kind)
    return ModelFolder(name, {
        "config.pbtxt": text_of(config).encode(),
        f"{VERSION}/model.py": code.encode(),
        f"{VERSION}/{SIDECAR}": sidecar_text(plan),
    })  # fmt: skip


def _stage(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> dict[str, Field]:
    """A step of the schedule: its tensors, and what the ensemble calls them."""
    return {
        "model_name": model,
        "model_version": -1,
        "input_map": [{"key": key, "value": value} for key, value in inputs.items()],
        "output_map": [{"key": key, "value": value} for key, value in outputs.items()],
    }


def _within(names: Sequence[str]) -> dict[str, str]:
    """What the ensemble calls tensors between its steps: never as its own input and outputs."""
    return {name: f"between/{name}" for name in names}


def _names(fields: Sequence[dict[str, Field]]) -> list[str]:
    return [str(field["name"]) for field in fields]
