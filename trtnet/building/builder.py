"""build(): makes a Plan of a network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtnet.building.archive_refit import strip_archive
from trtnet.building.axes import AxisRules
from trtnet.building.options import BuildConfig
from trtnet.building.plan import FORMAT_VERSION, Plan
from trtnet.building.profiles import GivenProfile, Profile, as_json, check_profiles, inputs_of
from trtnet.building.recipe import recipe_hash
from trtnet.building.recipes import name_weights, refittable, stated_recipes
from trtnet.dtypes import DType, tensorrt_dtype_name
from trtnet.errors import BuildError, NetworkError, UnsupportedError
from trtnet.files import atomic_write
from trtnet.graph import dumps, read
from trtnet.graph.plugins import marks
from trtnet.importing import place_of
from trtnet.plugins import registry
from trtnet.precision.table import QUANTIZED, Precision
from trtnet.precision.targets import Targets, choose_targets
from trtnet.reading.files import read_if_present
from trtnet.version import __version__
from trtnet.workers import Job, Workers

if TYPE_CHECKING:
    from trtnet.backend.callbacks import BuildMonitor
    from trtnet.network import Network

_POLL_SECONDS = 0.1
_LARGEST_CACHE = 1 << 30  # bytes of a timing cache; a real one has some megabytes


def build(
    network: Network,
    shapes: GivenProfile | Sequence[GivenProfile] | None = None,
    config: BuildConfig | None = None,
    *,
    sidecar: Mapping[str, Any] | None = None,
    reuse: Plan | None = None,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Builds the engine of `network`. The network is not changed, and can be built again.

    Args:
        network: with at least one output.
        shapes: :class:`trtnet.Shapes`, or one fixed shape, by input name, for inputs with dynamic
            axes; a list of such mappings for several optimization profiles. An input whose dynamic
            axes all have a declared range (:class:`trtnet.Axis`) may be left out; the shapes of any
            other must keep to the declared ranges.
        config: the builder's options. Where it names no GPUs, the engine is built for those of the
            backend's default that have all of the network's precisions: see :func:`choose_gpus`.
        sidecar: further JSON values to keep beside the engine, such as where its weights are from.
        reuse: a plan built before; its engine is taken if it has the same recipe.
        progress: called about ten times a second with the name of TensorRT's current phase.

    Returns:
        The engine and the sidecar that describes it. For the backend ``torch`` the engine is the
        archive of the network: :func:`trtnet.graph.dumps`.

    Raises:
        ShapeError: `shapes` that do not fit the network; names the input.
        UnsupportedError: options that the backend does not have.
        UsageError, WeightsError: a policy or calibration that does not belong to the network, or
            a `sidecar` that could not be read again.
        BuildError: TensorRT cannot build the engine; carries its words. Also for INT8 and FP8
            without a calibration.

    >>> import trtnet
    >>> from trtnet import nn
    >>> net = trtnet.Network(backend="rtx")
    >>> _ = net.output("y", nn.ReLU()(net.input("x", ("N", 8))))
    >>> plan = trtnet.build(net, {"x": trtnet.Shapes(min=(1, 8), opt=(4, 8), max=(16, 8))})
    >>> plan.sidecar["inputs"]
    [{'name': 'x', 'dtype': 'float32', 'shape': [-1, 8]}]
    """
    from trtnet.building.sidecar import require_readable  # needs msgspec

    require_readable(sidecar or {})
    config = config or BuildConfig()
    definition = network.definition
    if not definition.num_outputs:
        raise BuildError("the network has no output", fix="mark one: network.output(name, tensor)")
    inputs = inputs_of(definition)
    profiles = check_profiles(inputs, shapes, network.guards)
    config.check(network.backend)
    network.check()
    _require_calibration(network)
    targets = choose_gpus(network, config)
    config = replace(config, compute_capabilities=targets.capabilities)
    recipe = _recipe(network, profiles, config)
    refit = _recipes_of_weights(network, config)
    if reuse is not None and recipe is not None and reuse.sidecar.get("recipe") == recipe:
        engine = reuse.engine
    elif network.backend.description.writes_archive:
        engine = dumps(read(definition))
        if config.strip_weights and refit is not None:
            engine = strip_archive(engine, refittable(refit))
    else:
        builder_config = _builder_config(network, profiles, config)
        if refit is not None:
            name_weights(network, refit, bool(config.refit_individual))
        engine = _serialize(network, builder_config, progress)
        if config.timing_cache_file is not None:
            _save_timing_cache(builder_config, Path(config.timing_cache_file))
    described = {
        "format_version": FORMAT_VERSION,
        "trtnet": __version__,
        "backend": {"name": network.backend.name, "version": network.backend.version},
        "compute_capabilities": list(config.compute_capabilities) or None,
        "precision": network.precision,
        "policy": network.policy.as_dict(),
        "inputs": describe(definition.get_input, definition.num_inputs),
        "outputs": describe(definition.get_output, definition.num_outputs),
        "profiles": as_json(profiles),
        "axes": AxisRules.of(inputs, network.guards).as_json(),
        "plugins": _plugins(definition),
        "options": config.chosen(),
        "recipe": recipe,
        "engine": {"bytes": len(engine), "sha256": hashlib.sha256(engine).hexdigest()},
    }
    if refit is not None:
        described["refit"] = refit
    return Plan(engine, {**(sidecar or {}), **described})


def _recipes_of_weights(network: Network, config: BuildConfig) -> dict[str, Any] | None:
    if not config.keeps_recipes:
        return None
    graph = read(network.definition)
    return stated_recipes(network, graph, config.refit_individual, config.strip_weights)


def _require_calibration(network: Network) -> None:
    if network.quantizer.is_observing:
        names = " and ".join(name.upper() for name in QUANTIZED if network.policy.uses(name))
        raise BuildError(
            f"{names} needs the ranges of {len(network.observed)} tensors",
            fix="calibrate: run the network on data, and define it again with "
            "trtnet.Network(..., calibration=table)",
        )


def choose_gpus(network: Network, config: BuildConfig) -> Targets:
    """The GPUs that an engine of `network` is built for.

    Without compute capabilities in `config` these are the backend's default ones, less those that
    lack a precision of the network.

    Raises:
        UnsupportedError: `config` names GPUs that lack one.
    """

    def occurs(precision: Precision) -> bool:
        if precision.dtype is None:
            return precision.name in network.quantizer.formats
        return _computes_in(network, precision.dtype)

    return choose_targets(config.compute_capabilities, network.backend.default_capabilities, occurs)


def _computes_in(network: Network, dtype: DType) -> bool:
    definition, wanted = network.definition, dtype.of(network.trt)
    layers = (definition.get_layer(index) for index in range(definition.num_layers))
    return any(
        layer.get_output(index).dtype == wanted
        for layer in layers
        for index in range(layer.num_outputs)
    )


def describe(get: Callable[[int], Any], count: int) -> list[dict[str, Any]]:
    """Name, dtype and shape (-1 for a dynamic axis) of the network's inputs or outputs."""
    tensors = [get(index) for index in range(count)]
    return [
        {
            "name": tensor.name,
            "dtype": tensorrt_dtype_name(tensor.dtype.name),
            "shape": list(tensor.shape),
        }
        for tensor in tensors
    ]


def _plugins(definition: Any) -> list[dict[str, Any]]:
    """The plugins whose layers are in `definition`, and the modules that declare them."""
    found = {mark.plugin: mark for mark in marks(definition)}
    return [
        {
            "name": mark.plugin,
            "version": mark.version,
            "module": place_of(registry.find(mark.plugin, mark.version).__module__),
            "embedded": mark.embedded,
        }
        for mark in found.values()
    ]


def _recipe(network: Network, profiles: list[Profile], config: BuildConfig) -> str | None:
    """The network's recipe; ``None`` if it has hand-made layers that cannot be read back. It is
    then always rebuilt."""
    try:
        return recipe_hash(network, profiles, config)
    except (UnsupportedError, NetworkError):
        return None


def _builder_config(network: Network, profiles: list[Profile], options: BuildConfig) -> Any:
    trt, backend = network.trt, network.backend
    backend.clear_errors()
    config = network.builder.create_builder_config()
    if network.precision == "tf32":
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    options.apply(backend, config)
    if options.timing_cache_file is not None:
        _load_timing_cache(config, Path(options.timing_cache_file))
    for shapes in profiles:
        profile = network.builder.create_optimization_profile()
        for name, sizes in shapes.items():
            profile.set_shape(name, sizes.min, sizes.opt, sizes.max)
        if config.add_optimization_profile(profile) < 0:
            raise BuildError("TensorRT refuses the shapes", got=backend.take_errors() or shapes)
    errors = backend.take_errors()
    if errors:
        raise BuildError("TensorRT refuses the builder options", got=errors)
    return config


def _serialize(network: Network, config: Any, progress: Callable[[str], None] | None) -> bytes:
    """The engine's bytes. TensorRT builds in another thread, so that Ctrl-C stops it at its next
    step, and only then goes on: nothing works on the network any more."""
    monitor = config.progress_monitor = network.backend.progress_monitor()
    make = network.builder.build_serialized_network
    workers, building = Workers(1), Job(make, network.definition, config)
    interrupt: BaseException | None = None
    try:
        workers.put(building)
        while not building.wait(_POLL_SECONDS):
            if progress is not None:
                progress(monitor.phase)
    except BaseException as error:
        interrupt = error
    workers.close()
    if interrupt is not None:
        _stop(monitor, building)
        raise interrupt
    serialized = building.result()
    if serialized is None:
        raise BuildError(
            "TensorRT could not build the engine",
            got=network.backend.take_errors() or "no reason given",
        )
    network.backend.clear_errors()
    return bytes(serialized)


def _stop(monitor: BuildMonitor, building: Job[Any]) -> None:
    """Has TensorRT stop at its next step, and waits for it, whatever else comes meanwhile."""
    is_done = False
    while not is_done:
        try:
            monitor.cancelled = True
            building.cancel()
            is_done = building.wait()
        except KeyboardInterrupt:
            continue


def _load_timing_cache(config: Any, path: Path) -> None:
    content = read_if_present(path, "a timing cache", _LARGEST_CACHE, error=BuildError)
    cache = config.create_timing_cache(content or b"")
    if cache is None or not config.set_timing_cache(cache, False):
        raise BuildError(
            "the timing cache cannot be used",
            module=str(path),
            expected="a cache made by this TensorRT version on this kind of GPU",
            fix="name another file; a new one is written",
        )


def _save_timing_cache(config: Any, path: Path) -> None:
    try:
        with atomic_write(path) as file:
            file.write(config.get_timing_cache().serialize())
    except OSError as error:
        raise BuildError(
            "the timing cache cannot be written", got=error, module=str(path)
        ) from error
