"""Hooks: functions that a module calls before and after ``forward``, and while loading."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

_KEYS = itertools.count()  # of hooks, for their handles

Hook = Callable[..., Any]


class RemovableHandle:
    """What registering a hook gives: :meth:`remove` takes the hook away."""

    def __init__(self, hooks: dict[int, Any], key: int) -> None:
        self._hooks, self.id = hooks, key

    def remove(self) -> None:
        """Takes the hook away; a second time does nothing."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Hooks:
    """The part of :class:`trtnet.Module` that calls hooks, as ``torch.nn.Module`` does."""

    _forward_hooks: dict[int, tuple[Hook, bool]]
    _forward_pre_hooks: dict[int, tuple[Hook, bool]]
    _load_state_dict_pre_hooks: dict[int, tuple[Hook, bool]]
    _load_state_dict_post_hooks: dict[int, tuple[Hook, bool]]

    def _init_hooks(self) -> None:
        for table in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_load_state_dict_pre_hooks",
            "_load_state_dict_post_hooks",
        ):
            object.__setattr__(self, table, {})

    def register_forward_pre_hook(
        self, hook: Hook, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Calls ``hook(module, args)`` before ``forward``; what it returns, if anything, replaces
        the arguments. With `with_kwargs`: ``hook(module, args, kwargs)``, which returns both."""
        return _add(self._forward_pre_hooks, hook, with_kwargs, prepend)

    def register_forward_hook(
        self,
        hook: Hook,
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """Calls ``hook(module, args, output)`` after ``forward``; what it returns, if anything,
        replaces the output. With `with_kwargs`: ``hook(module, args, kwargs, output)``."""
        return _add(self._forward_hooks, hook, with_kwargs, prepend)

    def register_load_state_dict_pre_hook(self, hook: Hook) -> RemovableHandle:
        """Calls ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys,
        unexpected_keys, error_msgs)`` before values are looked up; it may change the state_dict."""
        return _add(self._load_state_dict_pre_hooks, hook, True, False)

    def _register_load_state_dict_pre_hook(
        self, hook: Hook, with_module: bool = False
    ) -> RemovableHandle:
        return _add(self._load_state_dict_pre_hooks, hook, with_module, False)

    def register_load_state_dict_post_hook(self, hook: Hook) -> RemovableHandle:
        """Calls ``hook(module, incompatible_keys)`` after loading; it may change the lists."""
        return _add(self._load_state_dict_post_hooks, hook, True, False)

    def register_full_backward_hook(self, hook: Hook, prepend: bool = False) -> RemovableHandle:
        """Nothing is called: there are no gradients."""
        return RemovableHandle({}, next(_KEYS))

    def forward_with_hooks(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """``forward`` with the hooks around it."""
        for hook, with_kwargs in list(self._forward_pre_hooks.values()):
            args, kwargs = _before(self, hook, with_kwargs, args, kwargs)
        result = self.forward(*args, **kwargs)  # type: ignore[attr-defined]
        for hook, with_kwargs in list(self._forward_hooks.values()):
            given = (self, args, kwargs, result) if with_kwargs else (self, args, result)
            replaced = hook(*given)
            result = result if replaced is None else replaced
        return result

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Calls the hooks of loading. Subclasses that override it change `state_dict` first; the
        values are looked up when that has been done for all modules."""
        given = (state_dict, prefix, local_metadata, strict)
        lists = (missing_keys, unexpected_keys, error_msgs)
        for hook, with_module in list(self._load_state_dict_pre_hooks.values()):
            hook(*((self,) if with_module else ()), *given, *lists)

    @property
    def changes_loading(self) -> bool:
        """Whether this module has a say in what a state_dict holds."""
        overridden = type(self)._load_from_state_dict is not Hooks._load_from_state_dict
        return overridden or bool(self._load_state_dict_pre_hooks)


def _add(table: dict[int, Any], hook: Hook, flag: bool, prepend: bool) -> RemovableHandle:
    key = next(_KEYS)
    if prepend:
        others = dict(table)
        table.clear()
        table[key] = (hook, flag)
        table.update(others)
    else:
        table[key] = (hook, flag)
    return RemovableHandle(table, key)


def _before(
    module: Any, hook: Hook, with_kwargs: bool, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if with_kwargs:
        replaced = hook(module, args, kwargs)
        return (args, kwargs) if replaced is None else replaced
    replaced = hook(module, args)
    if replaced is None:
        return args, kwargs
    return (replaced if isinstance(replaced, tuple) else (replaced,)), kwargs
