"""``trtnet.from_torch``: a ``torch.nn.Module`` as a module of trtnet."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from trtnet import nn
from trtnet.errors import TrtnetError, UsageError
from trtnet.escaping import printable
from trtnet.host import without_gradients
from trtnet.module import Module
from trtnet.tensor import Tensor, tensors_in
from trtnet.tensor.emitter import Emitter
from trtnet.torch_modules.copying import held_tensors, private_copy, uncompiled
from trtnet.torch_modules.exported import exported
from trtnet.torch_modules.keeping import Alone, Kept, StateError, interrupt_behind
from trtnet.torch_modules.parameters import SharedParameter
from trtnet.torch_modules.replacing import Replacement, Replacements, replaced
from trtnet.torch_modules.results import InnerCall, outputs
from trtnet.torch_modules.source_lines import line_of
from trtnet.torch_modules.traced import first_traced
from trtnet.torch_modules.tracing import Tracing


def from_torch(
    module: torch.nn.Module, way: str = "auto", replace: Replacements | None = None
) -> Module:
    """`module`, a module of PyTorch, as a module of trtnet: its own code, unchanged, defines the
    network when it is called on a :class:`trtnet.Tensor`.

    Modules have the paths, and parameters the names, that they have in PyTorch. The tensors are
    shared, not copied; the tree of modules is taken as it is now. It always behaves as in
    ``eval()``.

    Args:
        way: ``"direct"`` runs the module's code on tensors of the network; ``"export"`` runs the
            graph that ``torch.export`` makes of it, for code that asks for values of its tensors;
            ``"auto"`` takes the second where the first cannot be, and says so.
        replace: class of modules to what makes a replacement of each: a :class:`trtnet.Module`
            (which gets the weights of the old one, unless it has its own), a plugin or a function
            of trtnet's tensors, or another ``torch.nn.Module``.

    Raises:
        UsageError: something else than a ``torch.nn.Module``, another way, or a class to replace
            that does not occur.
        UnsupportedError: it cannot be copied.

    >>> import torch, trtnet
    >>> net = trtnet.Network("rtx")
    >>> block = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    >>> net.output("y", trtnet.from_torch(block)(net.input("x", (1, 3, 8, 8)))).shape
    (1, 8, 6, 6)
    """
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            "from_torch takes a torch.nn.Module",
            got=type(module).__name__,
            fix="call it with an instance, such as from_torch(torchvision.models.resnet50())",
        )
    if way not in WAYS:
        raise UsageError("from_torch has no such way", got=way, expected=", ".join(WAYS))
    copied = private_copy(module)
    return _tree(replaced(copied, replace) if replace else copied, {}, way, Alone(), {})


R = TypeVar("R")
Run = TypeVar("Run", bound=Tracing)
WAYS = ("auto", "direct", "export")


class TorchModule(Module):
    """A ``torch.nn.Module`` whose own code defines layers; made by :func:`from_torch`.

    Attributes:
        torch_module: the PyTorch module, a private copy that shares the tensors of the original.
        groups: of a convolution; 1 for all else.
        way: see :func:`from_torch`.
    """

    def __init__(
        self, module: torch.nn.Module, way: str, alone: Alone, shared: dict[int, SharedParameter]
    ) -> None:
        """`alone` and `shared`, parameters by the id of their tensors, belong to the whole tree."""
        super().__init__()
        self._alone = alone
        self.torch_module, self.way = module, way
        self.groups = getattr(module, "groups", 1)
        for name, parameter in module._parameters.items():
            held = None if parameter is None else _shared(module._parameters, name, shared)
            self._parameters[name] = held  # whatever attributes of Module are called
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                self._buffers[name] = _shared(module._buffers, name, shared)
        self._own_forward = module.forward
        enter = functools.partial(self._called)  # carries the signature, which torch.export reads
        module.forward = functools.update_wrapper(enter, self._own_forward)

    def _called(self, *args: Any, **kwargs: Any) -> Any:
        """What PyTorch's code runs by calling the module: its forward, in the module's scope."""
        first = first_traced([args, kwargs])
        if first is None:  # a computation on weights alone, such as a parametrization
            return self._own_forward(*args, **kwargs)
        if first.tracing.enters(self):
            return self._own_forward(*args, **kwargs)
        call = InnerCall(self._own_forward, args, kwargs)
        first.tracing.network.call(self, (call,), {})
        return call.result

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], InnerCall):
            return args[0].run()
        with self._alone.lock:  # the code may store what it likes in the module's attributes
            return self._define(args, kwargs)

    def _define(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = tensors_in([args, kwargs])
        network = tensors[0].network
        if self.way != "auto" or not network.is_fresh:
            return self.run(self.tracing(network, Tracing), args, kwargs, self.way)
        values = [tensor.value for tensor in tensors]
        try:
            return self.run(self.tracing(network, Tracing), args, kwargs)
        except Exception as error:  # of the module's own code too
            interrupt = interrupt_behind(error)
            if interrupt is not None:
                raise interrupt from error
            if isinstance(error, TrtnetError):
                error.settle()  # its sizes and tensors end with the layers
            network.begin_again()
            for tensor, value in zip(tensors, values, strict=True):
                tensor.become(Tensor.of(value), "from_torch")
            if isinstance(error, StateError):  # torch.export would not see it
                raise
            return self._exported_after(error, network, args, kwargs)

    def _exported_after(
        self, error: Exception, network: Emitter[Tensor], args: Sequence[Any], kwargs: Any
    ) -> Any:
        """The second way, after the first ended with `error`."""
        try:
            result = self.run(self.tracing(network, Tracing), args, kwargs, "export")
        except TrtnetError as second:
            if isinstance(error, TrtnetError):
                note = f"torch.export was tried too: {second.problem} ({second.got or second.line})"
                error.fix = f"{error.fix}; {note}" if error.fix else note
            raise error from second
        reason = printable(" ".join(str(error).split()))
        warnings.warn(
            f"{type(self).__name__} is defined from the graph of torch.export, because its code "
            f"cannot be run on tensors of a network: {reason}",
            stacklevel=7,
        )
        return result

    def run(
        self,
        tracing: Tracing,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        way: str = "direct",
    ) -> Any:
        """Runs the module's code, in the scope that its caller has entered."""
        given, named = tracing.wrap(tuple(args)), tracing.wrap(dict(kwargs))
        if way == "export":
            scope = functools.partial(_run_in, dict(self.named_modules()), tracing.network)
            call = self._kept(exported, self.torch_module, given, named, scope, tracing)
        else:
            tracing.entered = self
            call = functools.partial(self.torch_module, *given, **named)
        try:
            result = self._kept(_traced, call, tracing, stateless=True)
            return outputs(result, tracing.real)
        except TrtnetError as error:
            error.locate_line(line_of(type(self.torch_module).forward))
            raise
        except RuntimeError as error:
            if tracing.failure is not None and "TorchScript" in str(error):
                raise tracing.failure from error  # TorchScript raises its own, without the text
            raise

    def _kept(self, function: Callable[..., R], *args: Any, stateless: bool = False) -> R:
        """``function(*args)``; whatever the module's code changes meanwhile is restored, and with
        `stateless` refused where a network could not do the same."""
        with self._alone.lock:
            self._alone.recover()
            kept = Kept(self.torch_module)
            try:
                self._alone.begin(kept)
                result = function(*args)
                if stateless:
                    kept.require_stateless()
                return result
            finally:
                kept.is_over = True
                try:
                    self._alone.recover()
                except BaseException:  # a second interrupt
                    self._alone.recover()
                    raise

    def tracing(self, network: Emitter[Tensor], kind: type[Run], **options: Any) -> Run:
        """A new run of the module's code that fills `network`."""
        with self._alone.lock:
            self._alone.recover()
        module = self.torch_module
        tensors = [*module.parameters(), *module.buffers()]
        floating = (tensor.dtype for tensor in tensors if tensor.is_floating_point())
        device = tensors[0].device if tensors else torch.device("cpu")
        own = held_tensors(module)
        return kind(network, next(floating, torch.float32), device, own, **options)

    def extra_repr(self) -> str:
        return self.torch_module.extra_repr()


def _traced(call: Callable[[], Any], tracing: Tracing) -> Any:
    with uncompiled(), tracing, without_gradients():
        return call()


def _run_in(
    modules: Mapping[str, Module], network: Emitter[Tensor], path: str, call: InnerCall
) -> None:
    """Runs `call` in the scope of the module at `path`, if there is one."""
    if path in modules:
        network.call(modules[path], (call,), {})
    else:
        call.run()


def _shared(table: dict[str, Any], name: str, known: dict[int, SharedParameter]) -> SharedParameter:
    """The parameter for a tensor: one for all places that it is in."""
    tensor = table[name]
    if id(tensor) in known:
        known[id(tensor)].also_in(table, name)
    else:
        known[id(tensor)] = SharedParameter(table, name)
    return known[id(tensor)]


def _tree(
    module: torch.nn.Module,
    known: dict[int, Module],
    way: str,
    alone: Alone,
    shared: dict[int, SharedParameter],
) -> Module:
    """`module` and all inside it, which share the lock `alone`; a module or tensor that occurs in
    several places stays one."""
    if isinstance(module, Replacement) and isinstance(module.target, Module):
        return module.target
    if id(module) not in known:
        made = known[id(module)] = _class_for(type(module))(module, way, alone, shared)
        for name, child in module._modules.items():
            if child is not None:
                made._modules[name] = _tree(child, known, way, alone, shared)
    return known[id(module)]


def _class_for(kind: type[torch.nn.Module]) -> type[TorchModule]:
    """A class with the name of `kind`, and the kind of work of the layer of PyTorch that it is or
    derives from: policies and reports show both."""
    layers = (getattr(nn, base.__name__, None) for base in kind.__mro__ if _is_torchs(base))
    known = (getattr(layer, "computes", None) for layer in layers)  # none of nn.DataParallel
    computes = next((work for work in known if work is not None), "")
    return type(kind.__name__, (TorchModule,), {"computes": computes, "__doc__": kind.__doc__})


def _is_torchs(kind: type) -> bool:
    return kind.__module__.startswith("torch.nn.") and kind is not torch.nn.Module
