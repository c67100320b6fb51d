"""Every public name has a docstring."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import inspect
from types import ModuleType
from typing import Any

import pytest
from sources import modules

EXEMPT = {"forward"}  # described by the docstring of its class


def undocumented(module: ModuleType) -> list[str]:
    """Public modules, classes, functions, methods and properties without a docstring."""
    missing = [] if (module.__doc__ or "").strip() else [module.__name__]
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(thing):
            missing += undocumented_in(thing)
        elif callable(thing) and inspect.isfunction(inspect.unwrap(thing)):
            missing += [] if inspect.getdoc(thing) else [f"{module.__name__}.{name}"]
    return missing


def undocumented_in(owner: type) -> list[str]:
    """The class itself and what it defines; what it overrides may be documented in a base."""
    path = f"{owner.__module__}.{owner.__qualname__}"
    missing = [] if has_own_docstring(owner) else [path]
    for name, thing in vars(owner).items():
        if name.startswith("_") or name in EXEMPT:
            continue
        if inspect.isclass(thing) and thing.__module__ == owner.__module__:
            missing += undocumented_in(thing)
        elif is_method(thing):
            definitions = [vars(base)[name] for base in owner.__mro__ if name in vars(base)]
            if not any((function_of(each).__doc__ or "").strip() for each in definitions):
                missing.append(f"{path}.{name}")
    return missing


def function_of(thing: Any) -> Any:
    """The function behind a property, cached property, class method or static method."""
    return getattr(thing, "__func__", None) or getattr(thing, "func", None) or thing


def is_method(thing: object) -> bool:
    return isinstance(thing, property) or inspect.isfunction(inspect.unwrap(function_of(thing)))


def has_own_docstring(owner: type) -> bool:
    """Not inherited, and not the text that dataclasses, named tuples and enums write themselves."""
    text = (vars(owner).get("__doc__") or "").strip()
    if dataclasses.is_dataclass(owner) or issubclass(owner, tuple):
        return bool(text) and not text.startswith(f"{owner.__name__}(")
    return bool(text) and text != "An enumeration."  # written by Python 3.10


@pytest.mark.parametrize("name", [name for name in modules() if not name.endswith("__main__")])
def test_public_names_have_docstrings(name: str) -> None:
    missing = undocumented(importlib.import_module(name))
    assert not missing, "\n" + "\n".join(missing)


def test_what_is_documented_is_told_apart() -> None:
    class Base:
        """A base."""

        def inherited(self) -> None:
            """Does nothing."""

        def bare(self) -> None: ...

    class Derived(Base):
        def inherited(self) -> None: ...

        @property
        def named(self) -> int:
            return 1

        def forward(self) -> None: ...

    @dataclasses.dataclass
    class Record:
        field: int

    class Kind(enum.Enum):
        ONE = 1

    Derived.__module__ = Base.__module__ = Record.__module__ = Kind.__module__ = "made_up"
    module = ModuleType("made_up", "A module.")
    vars(module).update(Base=Base, Derived=Derived, Record=Record, Kind=Kind, _Hidden=Record)
    prefix = test_what_is_documented_is_told_apart.__name__ + ".<locals>"
    assert undocumented(module) == [
        f"made_up.{prefix}.Base.bare",
        f"made_up.{prefix}.Derived",
        f"made_up.{prefix}.Derived.named",
        f"made_up.{prefix}.Record",
        f"made_up.{prefix}.Kind",
    ]
