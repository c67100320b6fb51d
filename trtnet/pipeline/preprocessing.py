"""Which preprocessing counts: what the user states, over what a sidecar or weights say; and how
images are prepared for one input of an engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet.errors import PlanError, UsageError
from trtnet.imaging import Placement, image_mode, placement, prepare
from trtnet.imaging.fitting import EdgeRange, ImageInput, differences, fitted
from trtnet.imaging.preprocessing import Preprocessing, checked_preprocessing
from trtnet.imaging.presets import PRESETS, load_preprocessing
from trtnet.reading.documents import Source
from trtnet.weights.container import image_metadata

if TYPE_CHECKING:
    import os

    from PIL.Image import Image

    from trtnet.building.plan import Plan
    from trtnet.building.profiles import Shapes
    from trtnet.building.sidecar import StatedTensor
    from trtnet.engines.protocol import Binding
    from trtnet.engines.session import Session
    from trtnet.tensor import Axis
    from trtnet.weights import Weights

ENTRY, ORIGIN = "preprocessing", "preprocessing_source"
"""Entries of sidecars, and of the metadata of weights."""

FIX = (
    f"--preprocess {next(iter(PRESETS))} (or {', '.join([*PRESETS][1:])}, or a .toml file), "
    f'in Python preprocess="{next(iter(PRESETS))}"'
)
"""What to do where nothing says how images are prepared."""

_IMAGE_AXES = 4
_RESIZES = ("resize_size", "resize_mode", "max_size", "crop_size", "size_divisor")
_SIZES = (*_RESIZES, "letterbox_size")


@dataclass(frozen=True)
class StatedPreprocessing:
    """What a user states about the preparation of images.

    Attributes:
        base: in place of what the weights or the sidecar say; ``None`` to keep that.
        changes: entries that differ from `base`, or from what the weights or the sidecar say.
        source: where it is from, in words, such as ``--preprocess imagenet``.
    """

    base: Preprocessing | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    source: str = "stated"

    def over(self, found: Preprocessing | None) -> Preprocessing:
        """The preprocessing, where weights or a sidecar say `found`.

        Raises:
            UsageError: entries that contradict each other.
        """
        base = self.base if self.base is not None else found
        replaced = _replaced(self.changes)
        kept = {} if base is None else base.as_dict()
        kept = {key: value for key, value in kept.items() if key not in replaced}
        source = Source("", f"the preprocessing ({self.source})", UsageError, None)
        return checked_preprocessing({**kept, **self.changes}, source)


def _replaced(changes: Mapping[str, Any]) -> tuple[str, ...]:
    """The entries whose place `changes` take: a letterbox that of resize and crop, and the
    reverse."""
    if changes.get("letterbox_size"):
        return _RESIZES
    gone = ("resize_mode",) if "resize_size" in changes else ()
    new_size = changes.get("resize_size") or changes.get("crop_size")
    if new_size or "letterbox_size" in changes:
        return (*gone, "letterbox_size", "pad_color", "pad_position", "upscale")
    return gone


def state_preprocessing(
    stated: str | os.PathLike[str] | Mapping[str, Any] | Preprocessing | None = None,
    source: str | None = None,
    **changes: Any,
) -> StatedPreprocessing:
    """What a user states, for :class:`trtnet.pipeline.Recipe`.

    Args:
        stated: the name of a preset, a ``.toml`` file, or the entries themselves.
        source: where it is from, in words.
        **changes: entries that differ from it, see
            :class:`trtnet.imaging.preprocessing.Preprocessing`.

    Raises:
        UsageError, PlanError: no such preset or file; unknown or impossible entries.

    >>> state_preprocessing("imagenet", crop_size=192).over(None).crop
    (192, 192)
    """
    if stated is None:
        base, what = None, "stated"
    elif isinstance(stated, (Mapping, Preprocessing)):
        base, what = checked_preprocessing(stated), "stated"
    else:
        base, what = load_preprocessing(stated), str(stated)
    return StatedPreprocessing(base, changes, source or what)


def restated(
    weights: Weights,
    stated: StatedPreprocessing | None = None,
    class_names: Sequence[str] | None = None,
) -> Weights:
    """`weights` whose metadata say what the user states, and from where it is.

    Raises:
        UsageError: entries that contradict each other.
        PlanError: what the weights say is impossible, and the user states nothing else.
    """
    said = weights.preprocessing
    source = weights.metadata.get(ORIGIN, f"weights {weights.source}")
    rules = None
    if said is not None and (stated is None or stated.base is None):
        what = Source("", f"the preprocessing in the weights {weights.source}", PlanError, FIX)
        rules = checked_preprocessing(said, what)
    if stated is not None:
        changed = rules is not None and stated.base is None
        rules = stated.over(rules)
        source = f"{stated.source} over {source}" if changed else stated.source
    entries = image_metadata(None if rules is None else rules.as_dict(), class_names)
    if rules is not None:
        entries[ORIGIN] = source
    return weights.restated(**entries)


def fitted_to_profiles(weights: Weights, profiles: Sequence[Shapes]) -> Weights:
    """`weights` whose preprocessing gives the size and channels of an input. What does not fit at
    all stays, where only the weights say it: no image has been asked for.

    Args:
        profiles: the shapes of the input, for each optimization profile.

    Raises:
        UsageError: the user states what does not fit.
    """
    said, source = weights.preprocessing, weights.metadata.get(ORIGIN, "")
    if said is None or len(profiles[0].opt) != _IMAGE_AXES:
        return weights
    rules = checked_preprocessing(said)
    try:
        found = _fitted(rules, [_taken(profile) for profile in profiles])
    except UsageError:
        if source.startswith("weights "):
            return weights
        raise
    return weights.restated(**image_metadata(found.as_dict(), None))


def preprocessing_of(plan: Plan) -> Preprocessing:
    """What the sidecar says.

    Raises:
        UsageError: it says nothing.
        PlanError: what it says is impossible.
    """
    found = plan.described.preprocessing
    if found is None:
        raise unknown_preprocessing("preprocessing in the sidecar beside the engine")
    return found


def unknown_preprocessing(expected: str) -> UsageError:
    """The error where nothing says how images are prepared."""
    return UsageError(
        "nothing says how images are to be prepared for this network", expected=expected, fix=FIX
    )


@dataclass(frozen=True)
class Preparation:
    """How images become one input of an engine.

    Attributes:
        stated: as the user, the sidecar or the weights say.
        inputs: what the engine takes, one for each profile.
        source: who says it, in words.
        dtype: of the input.
    """

    stated: Preprocessing
    inputs: tuple[ImageInput, ...]
    source: str
    dtype: str = "float32"

    def __post_init__(self) -> None:
        self.fitted()  # raises for channels that do not fit

    def fitted(self, size: tuple[int, int] | None = None) -> Preprocessing:
        """What is done to an image of `size`, which is (width, height); without it, what is known
        for all; see :func:`trtnet.imaging.fitting.fitted`."""
        return _fitted(self.stated, self.inputs, size)

    @property
    def mode(self) -> str:
        """Of the images, see :func:`trtnet.imaging.image_mode`."""
        return image_mode(self.fitted())

    def __call__(self, image: Image) -> np.ndarray:
        """The input for `image`: (1, channels, height, width), of the input's type.

        Raises:
            UsageError: it would become too large.
        """
        return prepare(image, self.fitted(image.size)).astype(self.dtype)

    def placement(self, size: tuple[int, int]) -> Placement:
        """Where in the input an image of `size`, (width, height), is."""
        return placement(size, self.fitted(size))

    def lines(self) -> list[str]:
        """What is done, and who says so, for people."""
        found = self.fitted()
        lines = [f"images    {found}", f"          stated by {self.source}"]
        changed = differences(self.stated, found)
        taken = " or ".join(dict.fromkeys(map(str, self.inputs)))
        if found.size is None:
            lines.append(f"          what comes out of {taken} is resized into it")
        if changed:
            lines.append(f"          fitted to the input {taken}: {changed}")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """JSON values for reports."""
        return {ENTRY: self.fitted().as_dict(), ORIGIN: self.source}


def preparation_for(
    session: Session, stated: StatedPreprocessing | None = None, binding: Binding | None = None
) -> Preparation:
    """How images become an input of `session`.

    Args:
        session: on an engine whose sidecar may say it.
        stated: by the user, over the sidecar.
        binding: the input; by default the first.

    Raises:
        UsageError: nothing says it; the input takes no images; numbers of channels that differ.
        PlanError: what the sidecar says is impossible.
    """
    return preparation_of(session.plan, binding or session.inputs[0], session.profiles, stated)


def preparation_of(
    plan: Plan,
    binding: Binding | StatedTensor,
    profiles: Iterable[Mapping[str, Shapes]],
    stated: StatedPreprocessing | None = None,
) -> Preparation:
    """:func:`preparation_for`, of an engine that is not open.

    Args:
        plan: whose sidecar may say it.
        binding: the input.
        profiles: the ranges of the inputs, per optimization profile.
        stated: by the user, over the sidecar.

    Raises:
        UsageError, PlanError: as :func:`preparation_for`.
    """
    if len(binding.shape) != _IMAGE_AXES:
        raise UsageError(
            f"the input {binding.name!r} takes no images",
            expected="an input (N, channels, height, width)",
            got=str(binding.shape),
            fix="give it as .npy",
        )
    source = plan.described.preprocessing_source or "the sidecar"
    if stated is None:
        rules = preprocessing_of(plan)
    else:
        found = plan.described.preprocessing if stated.base is None else None
        rules = stated.over(found)
        if found is None:
            source = stated.source
        elif not source.startswith(stated.source):  # a model is built with what is stated
            source = f"{stated.source} over {source}"
    axes = _axes(plan, binding.name)
    taken = tuple(_taken(profile[binding.name], axes) for profile in profiles)
    return Preparation(rules, taken, source, binding.dtype)


def _fitted(
    rules: Preprocessing, inputs: Sequence[ImageInput], size: tuple[int, int] | None = None
) -> Preprocessing:
    """For the first of `inputs` that needs no change of size, or else the first."""
    found = [fitted(rules, taken, size) for taken in inputs]
    return next((each for each in found if _same_sizes(each, rules)), found[0])


def _same_sizes(one: Preprocessing, other: Preprocessing) -> bool:
    return all(getattr(one, key) == getattr(other, key) for key in _SIZES)


def _taken(shapes: Shapes, axes: Mapping[int, Axis] | None = None) -> ImageInput:
    height, width = (
        EdgeRange(shapes.min[i], shapes.max[i], axes[i].multiple_of if axes and i in axes else 1)
        for i in (2, 3)
    )
    return ImageInput(shapes.opt[1], height, width)


def _axes(plan: Plan, name: str) -> dict[int, Any]:
    """The named axes of an input, by index."""
    return {
        index: axis
        for axis in (plan.described.axes or {}).values()
        for tensor, index in axis.places
        if tensor == name
    }


def require_one_name_per_class(
    names: Sequence[str] | None, outputs: Iterable[Mapping[str, Any]]
) -> None:
    """Checks class names against the outputs of a network: scores (N, classes), or logits of pixels
    (N, classes, height, width). Of a detector's outputs only those of the format ``raw`` say how
    many classes there are.

    Args:
        names: of the classes; nothing is checked without.
        outputs: ``shape`` and ``name`` of each.

    Raises:
        UsageError: there are more or fewer.
    """
    if names is None:
        return
    counts = _class_counts({out["name"]: tuple(out["shape"]) for out in outputs})
    counts.discard(-1)
    if counts and len(names) not in counts:
        raise wrong_count(names, sorted(counts))


def _class_counts(shapes: Mapping[str, tuple[int, ...]]) -> set[int]:
    """How many classes outputs of these shapes have."""
    from trtnet.detection.reading import format_of  # imports all operators

    layout = format_of(shapes)
    if layout is not None:
        return {shapes["scores"][2]} if layout == "raw" else set()
    return {shape[1] for shape in shapes.values() if len(shape) in (2, _IMAGE_AXES)}


def wrong_count(names: Sequence[str], counts: Sequence[int]) -> UsageError:
    """The error for class names that are more or fewer than the classes."""
    return UsageError(
        f"{len(names)} class names for {' or '.join(map(str, counts))} classes",
        expected="one name for each class, in the order of the outputs",
        got=f"{', '.join(f'{name:.40}' for name in names[:3])}{', ...' * (len(names) > 3)}",
        fix="correct the file of --class-names (class_names=), or give the number of classes with "
        "--num-classes (num_classes=)",
    )
