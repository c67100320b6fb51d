"""Walks source code and finds what it uses of TensorRT, by following where objects come from."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tensorrt_api import APIS


class Kind(NamedTuple):
    """What an expression stands for: the ``module``, a ``class``, an ``enum``, an ``object`` of a
    class, or a bound ``method``."""

    what: str
    name: str = ""
    member: str = ""


MODULE = Kind("module")
OURS = Kind("ours")  # whatever its members are called


def instance(name: str) -> Kind:
    return Kind("object", name)


# What these names and attributes stand for wherever they occur.
NAMES = {
    "trt": MODULE,
    "definition": instance("INetworkDefinition"),
    "itensor": instance("ITensor"),
    "backend": OURS,
}
ATTRIBUTES = {
    "backend": OURS,
    "trt": MODULE,
    "definition": instance("INetworkDefinition"),
    "itensor": instance("ITensor"),
    "builder": instance("Builder"),
}


@dataclass
class Use:
    """One use of TensorRT: `path` is ``Class``, ``Class.member`` or ``Enum.MEMBER``.

    Attributes:
        where: file and line.
        call: number of positional arguments (-1 where they are unpacked) and keywords.
        is_set: a property that is assigned to.
    """

    where: str
    path: str
    call: tuple[int, frozenset[str]] | None = None
    is_set: bool = False


@dataclass
class Walk:
    """All uses in one file.

    Attributes:
        uses: in order.
        unclear: places that could not be understood.
        dynamic: enumerations whose members are looked up by a computed name.
        emitted: every ``add_*`` method whose call was understood.
    """

    tree: ast.Module
    name: str
    names: Mapping[str, Kind]
    uses: list[Use] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    dynamic: set[str] = field(default_factory=set)
    emitted: set[str] = field(default_factory=set)
    allowed: frozenset[str] = frozenset()

    def run(self) -> Walk:
        self._scope(self.tree.body, {**NAMES, **self.names}, None)
        return self

    # Scopes

    def _scope(
        self, body: list[ast.stmt], env: dict[str, Kind], function: ast.FunctionDef | None
    ) -> None:
        inner: list[ast.stmt] = []
        for node in _flat(body):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                inner.append(node)
                for expression in [*node.decorator_list, *getattr(node, "bases", [])]:
                    self._visit(expression, env, function)
                continue
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._bind(target, node.value, env)
            self._visit(node, env, function)
        for definition in inner:
            own = definition if isinstance(definition, ast.FunctionDef) else function
            prefix = f"{definition.name}."
            local = {
                n.removeprefix(prefix): k for n, k in self.names.items() if n.startswith(prefix)
            }
            self._scope(definition.body, {**env, **local}, own)

    def _bind(self, target: ast.expr, value: ast.expr, env: dict[str, Kind]) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            if any(isinstance(item, ast.Starred) for item in (*target.elts, *value.elts)):
                return
            for one, other in zip(target.elts, value.elts, strict=True):
                self._bind(one, other, env)
        elif isinstance(target, ast.Name):
            kind = self._kind(value, env)
            if kind is not None:
                env[target.id] = kind

    def _visit(self, node: ast.AST, env: dict[str, Kind], function: ast.FunctionDef | None) -> None:
        for part in (node, *_expressions(node)):
            if isinstance(part, ast.Call):
                self._call(part, env, function)
            elif isinstance(part, ast.Attribute):
                self._attribute(part, env)

    # What an expression stands for

    def _kind(self, node: ast.expr, env: dict[str, Kind]) -> Kind | None:
        if isinstance(node, ast.Name):
            return env.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self._kind(node.value, env)
            own = self.names.get(f".{node.attr}") or ATTRIBUTES.get(node.attr)
            return own if owner in (None, OURS) else self._member(owner, node.attr)
        if isinstance(node, ast.Call):
            return self._result(node, env)
        return None

    def _member(self, owner: Kind, name: str) -> Kind | None:
        if owner.what == "module":
            if any(name in api.enums for api in APIS):
                return Kind("enum", name)
            return Kind("class", name) if any(name in api.classes for api in APIS) else None
        if owner.what == "class":
            nested = f"{owner.name}.{name}"
            return Kind("enum", nested) if nested in NESTED else None
        if owner.what == "object":
            if any(api.overloads(owner.name, name) for api in APIS):
                return Kind("method", owner.name, name)
            types = {api.property(owner.name, name) for api in APIS} - {None}
            return _object({str(kind).partition(" ")[0] for kind in types})
        return None

    def _result(self, node: ast.Call, env: dict[str, Kind]) -> Kind | None:
        called = self._kind(node.func, env)
        if called is None:
            return None
        if called.what == "class":
            return instance(called.name)
        if called.what == "method":
            return _object(set().union(*(a.results(called.name, called.member) for a in APIS)))
        # backend.builder() makes what network.builder is
        return called if isinstance(node.func, ast.Attribute) and called.what == "object" else None

    # Uses

    def _attribute(self, node: ast.Attribute, env: dict[str, Kind]) -> None:
        owner = self._kind(node.value, env)
        if owner is None or owner is OURS:
            is_own = owner is OURS or ast.unparse(node.value) == "self"
            if node.attr in DISTINCTIVE and node.attr not in ATTRIBUTES and not is_own:
                self._doubt(node, f"whose {node.attr} is this?")
            return
        path = f"{owner.name}.{node.attr}".lstrip(".")
        is_known = any(api.has(path) for api in APIS)
        is_plain = node.attr in (
            "__class__",
            "__init__",
            "__members__",
            "__name__",
            "__version__",
            "fget",
            "get_plugin_registry",  # a function, which the data leaves out
            "name",
            "errors",
        )
        if owner.what in ("module", "enum", "object", "class") and is_known:
            self._use(node, path, is_set=isinstance(node.ctx, ast.Store))
        elif path in NESTED or node.attr in NESTED.get(owner.name, ()):
            return
        elif owner.what != "method" and not is_plain:
            self._doubt(node, f"no version has {path}")

    def _call(self, node: ast.Call, env: dict[str, Kind], function: ast.FunctionDef | None) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            self._lookup(node, env)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("emit", "emit_all"):
            self._emit(node, function)
        called = self._kind(node.func, env)
        if called is not None and called.what == "method":
            unpacked = any(isinstance(arg, ast.Starred) for arg in node.args)
            keywords = frozenset(keyword.arg for keyword in node.keywords if keyword.arg)
            count = -1 if unpacked else len(node.args)
            self._use(node, f"{called.name}.{called.member}", call=(count, keywords))

    def _lookup(self, node: ast.Call, env: dict[str, Kind]) -> None:
        owner = self._kind(node.args[0], env)
        if owner is None:
            return
        name = node.args[1]
        options = _strings(name)
        if options:
            for option in options:
                self._use(node, f"{owner.name}.{option}".lstrip("."))
        elif owner.what == "enum":
            self._use(node, owner.name)
            self.dynamic.add(owner.name)
        elif ast.unparse(node) not in self.allowed:
            self._doubt(node, f"a computed member of {owner.name or 'the module'}")

    def _emit(self, node: ast.Call, function: ast.FunctionDef | None) -> None:
        methods = _strings(node.args[1]) if len(node.args) > 1 else []
        if not all(method.startswith("add_") for method in methods or ["?"]):
            if ast.unparse(node) not in self.allowed:
                self._doubt(node, "emits something else than add_*")
            return
        given = node.args[2:]
        count = -1 if any(isinstance(arg, ast.Starred) for arg in given) else len(given)
        for method in methods:
            self.emitted.add(method)
            self._use(node, f"INetworkDefinition.{method}", call=(count, frozenset()))
            results = set().union(*(a.results("INetworkDefinition", method) for a in APIS))
            for name in self._attributes(node, function):
                for result in results:
                    self._use(node, f"{result}.{name}", is_set=True)

    def _attributes(self, node: ast.Call, function: ast.FunctionDef | None) -> set[str]:
        """Of the layer, given by keyword or by a dictionary made in the same function."""
        found = set()
        for keyword in node.keywords:
            if keyword.arg is not None:
                found.add(keyword.arg)
            elif isinstance(keyword.value, ast.Name) and function is not None:
                found |= _keys(self.tree, function, keyword.value.id)
            else:
                self._doubt(node, "attributes from elsewhere")
        return found - {"dims", "inputs"}

    def _use(self, node: ast.AST, path: str, **details: object) -> None:
        self.uses.append(Use(f"{self.name}:{node.lineno}", path, **details))  # type: ignore

    def _doubt(self, node: ast.AST, text: str) -> None:
        self.unclear.append(f"{self.name}:{node.lineno}: {text}")  # type: ignore[attr-defined]


# Enumerations inside classes, which the data leaves out; they are the same in every version.
NESTED = {
    "ILogger.Severity": ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"),
}


def walk(
    path: Path, name: str, names: Mapping[str, Kind], allowed: frozenset[str] = frozenset()
) -> Walk:
    """The uses in the file at `path`.

    Args:
        names: what further names, and with a leading dot attributes, stand for in it.
        allowed: expressions with a computed name that a test covers in another way.
    """
    return Walk(ast.parse(path.read_text()), name, names, allowed=allowed).run()


def literals(tree: ast.AST, pattern: str) -> set[str]:
    """All string constants that match."""
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(pattern, node.value)
    }


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements in order, those inside others after their head."""
    for node in body:
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            for name in ("body", "orelse", "finalbody"):
                yield from _flat(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from _flat(handler.body)


def _expressions(node: ast.AST) -> Iterator[ast.AST]:
    """All expressions of a statement, without the statements inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.stmt, ast.excepthandler)):
            yield child
            yield from _expressions(child)


def _object(types: set[str]) -> Kind | None:
    known = {name for name in types if any(name in api.classes for api in APIS)}
    return instance(known.pop()) if len(known) == 1 else None


def _strings(node: ast.expr) -> list[str]:
    if isinstance(node, ast.IfExp):
        return [*_strings(node.body), *_strings(node.orelse)]
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return [node.value] if is_text else []  # type: ignore[attr-defined]


def _keys(tree: ast.Module, function: ast.FunctionDef, name: str) -> set[str]:
    """What the dictionary `name` of `function` can hold: its own keys, or, if it is what the
    function was given by keyword, the further keywords of its calls."""
    taken = function.args.kwarg
    if taken is None or taken.arg != name:
        found = set()
        for node in ast.walk(function):
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    if isinstance(target, ast.Name) and target.id == name:
                        dicts = [n for n in ast.walk(node.value) if isinstance(n, ast.Dict)]
                        found |= {k for one in dicts for key in one.keys for k in _strings(key)}
                    elif isinstance(target, ast.Subscript) and ast.unparse(target.value) == name:
                        found |= set(_strings(target.slice))
        return found
    own = {argument.arg for argument in [*function.args.args, *function.args.kwonlyargs]}
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {
        keyword.arg
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == function.name
        for keyword in call.keywords
        if keyword.arg is not None and keyword.arg not in own
    }


def _distinctive() -> frozenset[str]:
    """Members whose names tell by themselves that they are TensorRT's."""
    found = {
        name
        for api in APIS
        for owner, described in api.classes.items()
        if not owner.startswith(("IPlugin", "Plugin", "OnnxParser", "Refitter"))
        for kind in ("methods", "properties")
        for name in described[kind]
    }
    return frozenset(name for name in found if "_" in name)


DISTINCTIVE = _distinctive()
