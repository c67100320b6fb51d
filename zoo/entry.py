"""One model of the zoo: what builds it, and what is known about it without building it."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard

from trtnet.errors import TrtnetError, UsageError
from trtnet.importing import importable, raised
from trtnet.module import Module
from trtnet.weights import random_init
from trtnet.weights.first_convolution import NAME as IN_CHANNELS
from trtnet.weights.first_convolution import with_in_channels
from trtnet.zoo.families import SHIPPED
from trtnet.zoo.pretrained import Pretrained

if TYPE_CHECKING:
    import torch

TASKS = ("classification", "segmentation", "detection")


@dataclass(frozen=True)
class Undecided:
    """Values of an argument of a model, all of which fit a state_dict.

    Attributes:
        values: two at least.
    """

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    Attributes:
        name: what :func:`trtnet.zoo.get_model` calls it; torchvision's name where it has the model.
        builder: makes the trtnet module, or a PyTorch module that defines the network; its keyword
            arguments are the model's.
        input_shape: (channels, height, width) of one input by default; ``None`` where nothing
            says it.
        twin: makes the same model in PyTorch, with the same arguments and state_dict; ``None``
            for torchvision's builder of this name, or for no counterpart at all.
        torchvision: whether torchvision has this model under this name: its weights, and where
            there is no `twin` its PyTorch counterpart, are torchvision's.
        embedded: name of weights shipped with the model → its file: an absolute path, or a path in
            the package ``trtnet.weights``.
        default_weights: the name of the weights to take where none are asked for.
        pretrained: the weights of torchvision, where some were trained with other arguments than
            the builder's defaults.
        switches: name of a boolean argument that torchvision's builder does not have → what does
            the same to torchvision's model when it is true. No weights depend on it.
        task: ``"classification"``, whose output is ``logits`` of shape (N, classes);
            ``"segmentation"``, whose outputs are named by the model's ``forward``; or
            ``"detection"``, whose outputs are those of :mod:`trtnet.detection.formats`.
        fixed_size: whether the model takes images of `input_shape` alone, whatever its arguments.
        preprocessing: of images, where weights do not say it: the entries of
            :class:`trtnet.imaging.preprocessing.Preprocessing`.
        telling: gives the arguments of the builder that the shapes of a state_dict, by name, tell,
            for those that :mod:`trtnet.zoo.settling` cannot conclude; :class:`Undecided` where
            several values fit.
        library: the package that the model is from, where it is another library's; its PyTorch
            module itself defines the network.
        published: makes the library's model with its published weights.
        folder: that of a file that was addressed by its path; the modules in it can be imported
            while the model is made.

    Raises:
        UsageError: an input shape that is none, or an unknown task.
    """

    name: str
    builder: Callable[..., Module | torch.nn.Module]
    input_shape: tuple[int, ...] | None = None
    twin: Callable[..., torch.nn.Module] | None = None
    torchvision: bool = False
    embedded: Mapping[str, str] = field(default_factory=dict)
    default_weights: str = "random"
    pretrained: tuple[Pretrained, ...] = ()
    switches: Mapping[str, Callable[..., torch.nn.Module]] = field(default_factory=dict)
    task: str = "classification"
    fixed_size: bool = False
    preprocessing: Mapping[str, Any] | None = None
    telling: Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, Any]] | None = None
    library: str | None = None
    published: Callable[..., torch.nn.Module] | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise UsageError("unknown task", module=self.name, expected=" or ".join(TASKS),
                             got=repr(self.task))  # fmt: skip
        if self.input_shape is not None:
            object.__setattr__(self, "input_shape", self._checked(self.input_shape))

    def _checked(self, shape: Any) -> tuple[int, ...]:
        sizes = tuple(shape) if isinstance(shape, (tuple, list)) else ()
        if sizes and all(type(size) is int and size > 0 for size in sizes):
            return sizes
        expected = "sizes of one input without its batch axis, such as (3, 224, 224)"
        raise UsageError("input_shape is not a shape", module=self.name, got=repr(shape),
                         expected=expected)  # fmt: skip

    @property
    def home(self) -> ModuleType:
        """The module that the model is written in."""
        found = inspect.getmodule(_plain(self.builder))
        assert found is not None
        return found

    @property
    def shipped(self) -> bool:
        """Whether the model comes with trtnet."""
        home = f"{_plain(self.builder).__module__}."
        return self.library is None and home.startswith(SHIPPED)

    @property
    def place(self) -> str:
        """Where the model is written, as an address: ``trtnet.zoo.resnet:resnet50``."""
        return place(self.builder)

    def makes_torch(self, **kwargs: Any) -> bool:
        """Whether the builder makes a ``torch.nn.Module``, whose code defines the network. Where
        nothing says it, the builder is called with the arguments."""
        if self.library is not None:
            return True
        if self.shipped or self.torchvision or self.twin is not None:
            return False
        if isinstance(self.builder, type):
            return not issubclass(self.builder, Module)
        return is_torch_module(self._call(self.builder, kwargs))

    def has_counterpart(self, **kwargs: Any) -> bool:
        """Whether there is the same model in PyTorch, which :meth:`torch_model` makes from the
        same arguments."""
        return self.twin is not None or self.torchvision or self.makes_torch(**kwargs)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the arguments that :meth:`build` and :meth:`torch_model` take: the builder's,
        and for models that come with trtnet ``in_channels``, of the images."""
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        own = tuple(name for name, argument in self._parameters.items()
                    if argument.kind not in several)  # fmt: skip
        return (*own, IN_CHANNELS) if self.shipped and IN_CHANNELS not in own else own

    def _split(self, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
        """The builder's arguments, and the number of channels where the builder lacks it."""
        if not self.shipped or IN_CHANNELS in self._parameters:
            return dict(kwargs), None
        return {k: v for k, v in kwargs.items() if k != IN_CHANNELS}, kwargs.get(IN_CHANNELS)

    @property
    def defaults(self) -> dict[str, Any]:
        """The values of those :attr:`arguments` that need not be given."""
        found = {name: argument.default for name, argument in self._parameters.items()
                 if name in self.arguments and argument.default is not argument.empty}  # fmt: skip
        if IN_CHANNELS in self.arguments and IN_CHANNELS not in self._parameters:
            found[IN_CHANNELS] = self.require_input_shape()[0]
        return found

    @property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.builder).parameters

    def require_input_shape(self) -> tuple[int, ...]:
        """:attr:`input_shape`, where one is needed.

        Raises:
            UsageError: nothing says it.
        """
        if self.input_shape is None:
            raise UsageError(
                "the model does not say what its input is",
                module=self.name,
                expected="the shape of one input without its batch axis",
                fix="write @register(input_shape=(3, 224, 224)) above the function, or set its "
                f"attribute: {self.name}.input_shape = (3, 224, 224)",
            )
        return self.input_shape

    def build(self, **kwargs: Any) -> Module:
        """The model, without weights; a ``torch.nn.Module`` that the builder makes is converted
        by :func:`trtnet.from_torch`, and has its own.

        Raises:
            UsageError: an argument that the model does not have; the builder raised an error, or
                returned something other than a :class:`trtnet.Module` or ``torch.nn.Module``.
        """
        self._check(kwargs)
        own, channels = self._split(kwargs)
        made = self._call(self.builder, own)
        if isinstance(made, Module):
            return made if channels is None else with_in_channels(made, channels, self.name)
        if is_torch_module(made):
            from trtnet.torch_modules.conversion import from_torch  # imports torch

            return from_torch(made)
        raise UsageError(
            f"{self.place} returned no module",
            module=self.name,
            expected="a trtnet.Module or a torch.nn.Module",
            got=f"{type(made).__name__}: {made!r:.80}",
            fix="return the model" if made is None else None,
        )

    def torch_model(self, **kwargs: Any) -> torch.nn.Module:
        """The same model in PyTorch, freshly initialised, in evaluation mode.

        Raises:
            UsageError: an argument that the model does not have; the model has no counterpart in
                PyTorch; the twin raised an error, or returned something else.
        """
        self._check(kwargs)
        if self.twin is not None:
            own, channels = self._split(kwargs)
            made = self._call(self.twin, own)
            if is_torch_module(made):
                if channels is not None:
                    made = with_in_channels(made, channels, self.name)
                return made.eval()
            raise UsageError(f"{place(self.twin)} returned no torch.nn.Module", module=self.name,
                             expected="a torch.nn.Module", got=type(made).__name__)  # fmt: skip
        if not self.torchvision:
            made = self._call(self.builder, kwargs) if self.makes_torch(**kwargs) else None
            if is_torch_module(made):
                return made.eval()
            raise UsageError(
                "the model has no counterpart in PyTorch",
                module=self.name,
                expected="a function that makes the same model of torch.nn modules",
                fix="write @register(twin=FUNCTION) above the model's function, or set its "
                f"attribute: {self.name}.twin = FUNCTION",
            )
        known = {name: value for name, value in kwargs.items() if name not in self.switches}
        model = random_init.build(self.name, **known).eval()
        for name, switch in self.switches.items():
            model = switch(model) if kwargs.get(name) else model
        return model

    def weights_file(self, name: str) -> Path:
        """The path of the embedded weights `name`."""
        return Path(random_init.__file__).parent / self.embedded[name]

    def _call(self, function: Callable[..., Any], kwargs: Mapping[str, Any]) -> Any:
        """What `function`, of whoever wrote the model, returns."""
        try:
            with importable(self.folder):
                return function(**kwargs)
        except TrtnetError as error:
            error.locate(self.name)
            raise
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{place(function)} raised an error",
                module=self.name,
                got=raised(error, _file(function)),
                fix="correct the function",
            ) from error

    def _check(self, kwargs: Mapping[str, Any]) -> None:
        kinds = {argument.kind for argument in self._parameters.values()}
        if inspect.Parameter.VAR_KEYWORD in kinds:
            return
        for argument in kwargs:
            if argument not in self.arguments:
                raise UsageError("the model has no such argument", module=self.name, got=argument,
                                 expected=", ".join(self.arguments) or "no argument")  # fmt: skip


def place(function: Callable[..., Any]) -> str:
    """Where a function or class is defined: ``module:name``, or ``path/file.py:name`` for one of a
    file that was addressed by its path or run as a script."""
    plain = _plain(function)
    module = plain.__module__
    name = getattr(plain, "__qualname__", type(plain).__name__)
    file = getattr(sys.modules.get(module), "__file__", None)
    unnamed = module == "__main__" or module.startswith("_")
    return f"{file if unnamed and file else module}:{name}"


def _file(function: Callable[..., Any]) -> str | None:
    """The file that a function or class is written in, as tracebacks name it."""
    plain = _plain(function)
    code = getattr(plain, "__code__", None)
    return (
        code.co_filename if code else getattr(sys.modules.get(plain.__module__), "__file__", None)
    )


def is_torch_module(value: Any) -> TypeGuard[torch.nn.Module]:
    """Whether `value` is a ``torch.nn.Module``; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _plain(function: Any) -> Any:
    """The function that :func:`functools.partial` was given."""
    while isinstance(function, functools.partial):
        function = function.func
    return function
