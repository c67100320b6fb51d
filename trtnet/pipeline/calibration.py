"""Calibration of a model: ranges for INT8 and FP8, and whether FP16 holds the values."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtnet import graph
from trtnet.errors import UsageError
from trtnet.graph import Graph
from trtnet.imaging.fitting import ImageInput, fitted
from trtnet.pipeline.definition import define
from trtnet.pipeline.inputs import seeded_batches
from trtnet.pipeline.model import RANDOM, is_random
from trtnet.pipeline.progress import Update
from trtnet.pipeline.recipe import CalibrationSettings
from trtnet.pipeline.shapes import InputShapes
from trtnet.precision.policy import Policy
from trtnet.precision.table import QUANTIZED
from trtnet.quantization.table import CalibrationTable
from trtnet.reading.documents import MOST_BYTES
from trtnet.reading.files import read_bytes
from trtnet.weights.container import raw_bytes

if TYPE_CHECKING:
    from trtnet.backend import Backend
    from trtnet.building.sidecar import StatedCalibration
    from trtnet.imaging.preprocessing import Preprocessing
    from trtnet.module import Module
    from trtnet.network import Network
    from trtnet.quantization import Batches, Calibration, RangeRow
    from trtnet.weights import Weights

_RANDOM_ITEMS = 32
_EVERY = 8  # batches between two writes of the journal


@dataclass(frozen=True)
class Calibrated:
    """The result of a calibration.

    Attributes:
        table: the ranges; ``None`` where nothing is quantized.
        rows: what FP16 does to each tensor, worst first; empty where the ranges existed already.
        data: what was calibrated on, if it was given.
        about: for the report and the sidecar.
    """

    table: CalibrationTable | None
    rows: tuple[RangeRow, ...]
    data: Batches | None
    about: dict[str, Any]


def require_data(settings: CalibrationSettings, policy: Policy) -> None:
    """Raises :class:`UsageError` if `policy` needs ranges and `settings` do not say from where."""
    if not policy.uses(*QUANTIZED) or settings.data or settings.table:
        return
    names = " and ".join(name for name in QUANTIZED if policy.uses(name))
    raise UsageError(
        f"{names} needs calibration data, for the range of each tensor",
        fix="--calib-data (CalibrationSettings(data=...)) with a folder of images, a .npy or a "
        f".npz file; with random weights --calib-data {RANDOM} does, too",
    )


def data_source(
    text: str, weights: Weights, shape: Sequence[int], items: int, seed: int
) -> str | np.ndarray:
    """The data that `text` stands for: a path, or for ``"random"`` seeded noise.

    Args:
        weights: of the network; only random ones accept noise.
        shape: of a batch of its input.
        items: how many at most.

    Raises:
        UsageError: noise for trained weights.
    """
    if text != RANDOM:
        return text
    if not is_random(weights):
        raise UsageError(
            f"{RANDOM}: noise says nothing about trained weights",
            got=f"weights {weights.source}",
            fix="give data like that the network is used on, or --weights random "
            '(weights="random")',
        )
    count = min(items, max(_RANDOM_ITEMS, shape[0]))
    return np.concatenate([image for _, image in seeded_batches([(1, *shape[1:])], count, seed)])


class Calibrator:
    """Calibrates one model, or finds ranges that exist already.

    Args:
        settings: data, method and table.
        backend: that defines the networks.
        policy: of the network that the calibration is for.
        shapes: of its input.
        model: with weights.
        weights: what `model` was loaded with.
        seed: of noise.
        plugins, nms: see :class:`trtnet.Network`.

    Raises:
        UsageError: `policy` needs ranges and `settings` do not say from where.
    """

    def __init__(
        self,
        settings: CalibrationSettings,
        backend: Backend,
        policy: Policy,
        shapes: InputShapes,
        model: Module,
        weights: Weights,
        seed: int = 0,
        plugins: str = "auto",
        nms: str = "native",
    ) -> None:
        require_data(settings, policy)
        self.settings, self.policy, self.weights, self.seed = settings, policy, weights, seed
        self.shapes = dataclasses.replace(shapes, declared=("N", *shapes.declared[1:]))
        self.quantizes = policy.uses(*QUANTIZED)
        observing = policy if self.quantizes else Policy("fp32")
        self.network = define(backend, observing, self.shapes, model, plugins=plugins, nms=nms)

    def run(
        self, engine: Path | None, known: StatedCalibration | None, update: Update
    ) -> Calibrated:
        """Calibrates, or takes ranges that exist already.

        Args:
            engine: file of the engine, beside which the ranges are kept; ``None`` keeps none.
            known: what the sidecar there says about them.
            update: receives the progress.

        Raises:
            UsageError: data or a table that cannot be used.
            WeightsError: a table that was made with other weights.
        """
        given = self.settings.table
        read = graph.read(self.network.definition)
        data = None if self.settings.data is None else self._data(self.settings.data, read)
        if given is not None and (data is None or given.exists()):
            found = CalibrationTable.load(given)
            found.require_weights(self.network.weights_sha256)
            made_here = known is not None and self._is_the_one(given, known)
            key_of_it = known.key if known and made_here else None
            about = {"method": found.method, "items": found.items, "key": key_of_it}
            return Calibrated(found, (), data, self._about(about, given, reused=True))
        assert data is not None  # require_data()
        table = given or (engine and engine.with_name(f"{engine.name}.calib.json"))
        key = self._key(read, data)
        if table and known and known.key == key and self._is_the_one(table, known):
            found = CalibrationTable.load(table)
            about = {"method": known.method, "items": known.items, "key": key}
            return Calibrated(found, (), data, self._about(about, table, reused=True))
        journal = engine and engine.with_name(f"{engine.name}.calib-{key[:12]}")
        started = time.perf_counter()
        calibration = self._calibrate(read, data, journal, update)
        made = self._table(calibration)
        if made is not None and table is not None:
            made.save(table)
        seconds = time.perf_counter() - started
        about = {"method": made and made.method, "items": calibration.items, "key": key}
        return Calibrated(made, calibration.ranges, data, self._about(about, table, seconds))

    def _is_the_one(self, table: Path, known: StatedCalibration) -> bool:
        """Whether `table` is there, and the one that `known` is about."""
        return self.quantizes and known.sha256 is not None and known.sha256 == _sha256(table)

    def _about(
        self, about: Mapping[str, Any], table: Path | None, seconds: float = 0, reused: bool = False
    ) -> dict[str, Any]:
        return {
            "data": self.settings.data,
            **{name: about[name] for name in ("method", "items", "key")},
            "tensors": len(self.network.observed),
            "table": str(table) if self.quantizes and table is not None else None,
            "sha256": _sha256(table) if self.quantizes else None,
            "reused": reused,
            "seconds": round(seconds, 3),
        }

    def _data(self, text: str, read: Graph) -> Batches:
        from trtnet.quantization import Batches, dataset

        shape, seed = self.shapes.typical[0], self.seed + 1  # verification has the seed itself
        items = self.settings.items
        source = data_source(text, self.weights, shape, items, seed)
        found = dataset(
            source,
            read,
            limit=items,
            preprocessing=self._preprocessing(shape),
        )
        assert isinstance(found, Batches)
        return found

    def _preprocessing(self, shape: Sequence[int]) -> Preprocessing | None:
        """Of images in data: batches need one size, that of `shape`, whatever others the network
        takes."""
        said, taken = self.weights.preprocessing, ImageInput.of_shape(shape)
        return None if said is None or taken is None else fitted(said, taken)

    def _key(self, read: Graph, data: Iterable[Mapping[str, np.ndarray]]) -> str:
        """A checksum of everything that decides the ranges."""
        digest = hashlib.sha256(graph.dumps(read))
        for batch in data:
            for name in sorted(batch):
                digest.update(f"{name} {batch[name].shape}".encode())
                digest.update(raw_bytes(batch[name]))
        method, observed = self.settings.method, self.network.observed
        digest.update(json.dumps([method, self._precision, observed]).encode())
        return digest.hexdigest()

    @property
    def _precision(self) -> str:
        """The precision that the ranges are for; any where nothing is quantized."""
        return self.policy.calibrated_for or QUANTIZED[-1]

    def _calibrate(
        self, read: Graph, data: Batches, journal: Path | None, update: Update
    ) -> Calibration:
        from trtnet.quantization import activations, calibrate

        def progress(done: int, total: int | None, rate: float) -> None:
            left = (data.items - done) / rate
            ends = f", {left:.0f} s left" if done < data.items else ""
            update(f"{done} of {total} images, {rate:.1f}/s{ends}")

        tensors = self.network.observed if self.quantizes else activations(read)
        return calibrate(read, tensors, data, progress=progress, resume=journal, every=_EVERY)

    def _table(self, calibration: Calibration) -> CalibrationTable | None:
        if not self.quantizes:
            return None
        made: CalibrationTable = calibration.table(
            self.settings.method,
            weights_sha256=self.network.weights_sha256,
            precision=self._precision,
        )
        return made


def unit_ranges(network: Network) -> CalibrationTable:
    """Ranges of 1 for `network`, which observes: enough to define its structure."""
    return CalibrationTable(dict.fromkeys(network.observed, 1.0), "minmax", network.weights_sha256)


def _sha256(path: Path | None) -> str | None:
    if path is None or not path.is_file():
        return None
    return hashlib.sha256(read_bytes(path, "a calibration table", MOST_BYTES)).hexdigest()
