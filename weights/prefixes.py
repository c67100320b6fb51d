"""Prefixes of keys: what wrappers put before a model's own keys, found by comparing the two."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from trtnet.errors import WeightsError
from trtnet.weights.places import Place

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Names that PyTorch's own wrappers give the model inside: ``DataParallel``, ``torch.compile``,
FSDP, activation checkpointing."""

_INNER = WRAPPERS[1:]  # "module" may be an attribute of the model itself
_AVERAGES = "n_averaged"  # a counter that AveragedModel adds
_SHOWN = 3
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Renaming:
    """How the keys of a file become those of a model.

    Attributes:
        names: key in the file → key of the model; keys of the file that are left out are not in it.
        prefixes: what is dropped → the number of keys that begin with it.
        added: what the model's keys begin with, and those of the file do not.
        inside: names of wrappers within the keys that are dropped → number of keys.
        left_out: keys of the file that have none of the prefixes, and belong to something else.
    """

    names: Mapping[str, str]
    prefixes: Mapping[str, int]
    added: str = ""
    inside: Mapping[str, int] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether any key changes."""
        return any(old != new for old, new in self.names.items()) or bool(self.left_out)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is done, in words: ``224 keys carry the prefix `_orig_mod.`: dropped``."""
        lines = [f"{counted(n)} the prefix `{p}`: dropped" for p, n in self.prefixes.items()]
        lines += [f"{counted(n)} `{p}`: dropped" for p, n in (self.inside or {}).items()]
        if self.added:
            lines.append(f"the model's keys carry the prefix `{self.added}`: added")
        if self.left_out:
            lines.append(f"{plural(len(self.left_out))} without it left out: "
                         f"{shortened(self.left_out)}")  # fmt: skip
        return tuple(lines)


def plural(count: int) -> str:
    """``1 key``, ``2 keys``."""
    return f"{count:,} key{'' if count == 1 else 's'}"


def counted(count: int) -> str:
    """``1 key carries``, ``2 keys carry``."""
    return f"{plural(count)} carr{'ies' if count == 1 else 'y'}"


def shortened(keys: Iterable[str], most: int = _SHOWN) -> str:
    """The first of `keys`, and how many more there are."""
    listed = list(keys)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def without_wrappers(keys: Iterable[str]) -> Renaming:
    """Drops what PyTorch's wrappers put before *every* key, where no model tells its keys."""
    listed = list(keys)
    inner = [key for key in listed if key != _AVERAGES]
    dropped = ""
    while inner and (name := _common_wrapper(inner, len(dropped))):
        dropped += f"{name}."
    if not dropped:
        return Renaming({key: key for key in listed}, {})
    left_out = tuple(key for key in listed if key == _AVERAGES)
    names = {key: key.removeprefix(dropped) for key in inner}
    return Renaming(names, {dropped: len(inner)}, left_out=left_out)


def _common_wrapper(keys: list[str], start: int) -> str | None:
    return next((name for name in WRAPPERS
                 if all(key.startswith(f"{name}.", start) for key in keys)), None)  # fmt: skip


def find(
    shapes: Mapping[str, Shape], places: Mapping[str, Place], flat: bool, what: str
) -> Renaming:
    """How keys of a file become those of a model: nothing is dropped where they fit as they are,
    otherwise the prefixes that make them fit.

    A prefix is taken if every key that the model needs is found behind it, or behind exactly one
    of several (``backbone.`` and ``head.``). Where nothing fits as a whole, the prefix with more
    than half of the keys is taken, so that an error names what is missing without it.

    Args:
        shapes: key → shape, of the file.
        places: what the model wants.
        flat: whether the file knows no shapes.
        what: the file, for messages.

    Raises:
        WeightsError: several prefixes fit.
    """
    same = Renaming({key: key for key in shapes}, {})
    required = {key for key, place in places.items() if not place.optional} or set(places)
    if not required or required <= shapes.keys():
        return same
    partly: Renaming | None = None
    for inside, keys in _spellings(shapes):
        for added in _starts(required):
            sources = _sources(keys, {key[len(added) :] for key in places})
            needed = {key[len(added) :] for key in required}
            chosen = _whole(sources, needed, _Fitting(shapes, keys, places, added, flat), what)
            if chosen is not None:
                return _renaming(keys, sources, chosen, added, inside)
            if not added and not partly and (best := _best(sources, needed, what)) is not None:
                partly = _renaming(keys, sources, {best}, added, inside)
    return partly or same


def selected(keys: Iterable[str], path: str) -> dict[str, str]:
    """The keys that begin with the prefix `path` (with or without its last dot) → without it."""
    prefix = f"{path.rstrip('.')}."
    return {key: key.removeprefix(prefix) for key in keys if key.startswith(prefix)}


@dataclass(frozen=True)
class _Fitting:
    """Whether the tensors behind a prefix have the shapes that the model wants."""

    shapes: Mapping[str, Shape]
    keys: Mapping[str, str]  # key without inner wrappers → key in the file
    places: Mapping[str, Place]
    added: str
    flat: bool

    def fits(self, prefix: str, needed: Iterable[str]) -> bool:
        return all(
            self.places[self.added + key].takes(self.shapes[self.keys[prefix + key]], self.flat)
            for key in needed
        )


def _spellings(shapes: Mapping[str, Shape]) -> Iterator[tuple[dict[str, int], dict[str, str]]]:
    """The keys as they are, and without the names of wrappers inside: (what is dropped, key → key
    in the file)."""
    yield {}, {key: key for key in shapes}
    dropped: Counter[str] = Counter()
    cleaned: dict[str, str] = {}
    for key in shapes:
        parts = key.split(".")
        dropped.update({f"{name}." for name in parts if name in _INNER})
        cleaned[".".join(name for name in parts if name not in _INNER)] = key
    if dropped and len(cleaned) == len(shapes):
        yield dict(dropped), cleaned


def _starts(keys: Iterable[str]) -> Iterator[str]:
    """Nothing, and each prefix that all keys of the model share."""
    yield ""
    paths = [key.split(".")[:-1] for key in keys]
    start = ""
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            return
        start += f"{names[0]}."
        yield start


def _sources(keys: Iterable[str], places: set[str]) -> dict[str, set[str]]:
    """For each key of the model the prefixes behind which the file has it."""
    found: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        start = 0
        while True:
            if key[start:] in places:
                found[key[start:]].add(key[:start])
            dot = key.find(".", start)
            if dot < 0:
                break
            start = dot + 1
    return found


def _whole(
    sources: Mapping[str, set[str]], needed: set[str], fitting: _Fitting, what: str
) -> set[str] | None:
    """The prefixes behind which everything that is `needed` is found, if they are unambiguous."""
    if not all(key in sources for key in needed):
        return None
    full = set.intersection(*(sources[key] for key in needed))
    if len(full) > 1:
        fits = {prefix for prefix in full if fitting.fits(prefix, needed)}
        full = fits if fits else full
    if len(full) > 1:
        raise _ambiguous(full, len(needed), what)
    if full:
        return full
    if all(len(sources[key]) == 1 for key in needed):
        return set.union(*(sources[key] for key in needed))
    return None


def _best(sources: Mapping[str, set[str]], needed: set[str], what: str) -> str | None:
    """The prefix behind which more than half of what is `needed` is found."""
    counts = Counter(prefix for key in needed for prefix in sources.get(key, ()))
    ranked = counts.most_common(2)
    if not ranked or 2 * ranked[0][1] <= len(needed):
        return None
    if len(ranked) > 1 and ranked[1][1] == ranked[0][1]:
        raise _ambiguous({prefix for prefix, _ in ranked}, ranked[0][1], what)
    return ranked[0][0]


def _ambiguous(prefixes: set[str], count: int, what: str) -> WeightsError:
    names = sorted(prefixes)
    one = next(name for name in names if name).rstrip(".")
    return WeightsError(
        f"{what} holds several sets of weights that fit the model",
        expected="one, or the name of the one to take",
        got=", ".join(f"{plural(count)} behind `{name}`" for name in names),
        fix=f"name one: --weights-key {one}, in Python trtnet.weights.load(path, key={one!r})",
    )


def _renaming(
    keys: Mapping[str, str],
    sources: Mapping[str, set[str]],
    chosen: set[str],
    added: str,
    inside: Mapping[str, int],
) -> Renaming:
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    left_out = []
    for key, old in keys.items():
        prefix = _prefix_of(key, sources, chosen)
        if prefix is None:
            left_out.append(old)
            continue
        names[old] = added + key.removeprefix(prefix)
        if prefix:
            counts[prefix] += 1
    return Renaming(names, dict(counts), added, inside, tuple(left_out))


def _prefix_of(key: str, sources: Mapping[str, set[str]], chosen: set[str]) -> str | None:
    """Which of the `chosen` prefixes `key` has: one behind which the model has a place, or else
    the longest. With several, keys behind a prefix keep to the place that the model has."""
    own = [prefix for prefix in chosen if key.startswith(prefix)]
    exact = [p for p in own if p in sources.get(key.removeprefix(p), ())]
    return max(exact or own, key=len, default=None)
