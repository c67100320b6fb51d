"""Study: cost, bound, measured time, policy and error of a network, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from trtnet.records import Row
from trtnet.studies import rolling
from trtnet.studies.facts import Facts
from trtnet.studies.operations import operation_rows


@dataclass(frozen=True)
class Study(Facts):
    """What trtnet knows of a network, by operation and by module; :func:`trtnet.study` makes one.

    The attributes are those of :class:`trtnet.studies.facts.Facts`.
    """

    def rows(self, depth: int | None = None) -> list[Row]:
        """The table; docs/study.md explains its columns.

        Args:
            depth: ``None`` for one row per operation. 0 for one row, 1 for one per child of the
                model, and so on: one for each module at that depth, and for each above it that
                calls no others. Operations of the code between modules keep rows of their own.
        """
        found = self.operations
        if depth is None:
            return [dict(row) for row in found]  # the caller may change them
        return rolling.rolled(self, found, depth)

    def tree(self) -> list[Row]:
        """A row for each module of every depth and, below it, for each of its operations, in the
        order of the module tree, with two more keys: ``depth``, and ``parent``, the path of the
        module around (``None`` for the model)."""
        return rolling.tree(self, self.operations)

    @cached_property
    def operations(self) -> list[Row]:
        """The rows of all operations, in execution order."""
        return operation_rows(self)

    def __str__(self) -> str:
        """One line with the totals."""
        (row,) = self.rows(0)
        words = [str(self.cost)]
        if self.bound is not None:
            words.append(f"at least {1e6 * self.bound.seconds:.2f} µs on {self.bound.gpu.name}")
        if row["time_s"] is not None:
            words.append(f"measured {1e6 * row['time_s']:.2f} µs")
        return ", ".join(words)
