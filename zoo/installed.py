"""Models that installed distributions offer, in the entry point group ``trtnet.zoo``.

A distribution offers one by a line in its ``pyproject.toml``::

    [project.entry-points."trtnet.zoo"]
    small_net = "my_package.models:small_net"

Its name is then known without importing anything of the distribution.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import importlib.metadata

GROUP = "trtnet.zoo"
_NAME = re.compile(r"[\w.-]+")  # what a command line, a file name and a terminal can take


@dataclass(frozen=True)
class Offer:
    """A model that an installed distribution offers; nothing of it is imported yet.

    Attributes:
        name: of the model.
        address: ``package.module:callable``, as the distribution wrote it: not checked.
        distribution: name and version, such as ``my-zoo 1.0``.
    """

    name: str
    address: str
    distribution: str


def offers() -> Mapping[str, tuple[Offer, ...]]:
    """The models of all installed distributions, by name. More than one distribution may offer
    the same name.

    Names with other characters than letters, digits, ``_``, ``.`` and ``-`` are left out, and so
    is a distribution whose metadata cannot be read.
    """
    return _offers(tuple(sys.path))


@functools.lru_cache(maxsize=1)
def _offers(search_path: tuple[str, ...]) -> Mapping[str, tuple[Offer, ...]]:
    """Those of the distributions on `search_path`, which is ``sys.path``."""
    import importlib.metadata  # slow, and --help needs none of it

    found: dict[str, tuple[Offer, ...]] = {}
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions(path=list(search_path)):
        try:
            made = _of_distribution(distribution)
        except Exception:  # foreign files: whatever is wrong with one must not hide the others
            continue
        if not made or made[0].distribution.split()[0] in seen:
            continue  # the first of that name on the path is the one that is imported
        seen.add(made[0].distribution.split()[0])
        for offer in made:
            found[offer.name] = (*found.get(offer.name, ()), offer)
    return found


def _of_distribution(distribution: importlib.metadata.Distribution) -> list[Offer]:
    text = distribution.read_text("entry_points.txt")
    if not text or GROUP not in text:
        return []
    title = f"{distribution.metadata['Name']} {distribution.version}"
    points = distribution.entry_points.select(group=GROUP)
    return [Offer(point.name, point.value.partition("[")[0].strip(), title)
            for point in points if _NAME.fullmatch(point.name)]  # fmt: skip
