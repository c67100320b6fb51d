"""Predictor: an engine in a pipeline of Ray Data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trtnet.errors import UsageError
from trtnet.serving.node_cache import open_on_node


class Predictor:
    """What ``ray.data.Dataset.map_batches`` takes for running an engine on prepared arrays: an
    actor is made once, opens the engine, and is called with batches of columns.

    Args:
        engine: the file of an engine, which each node reads where its actors are: put it on storage
            that all nodes share. Not a plan or a session, which belong to their process.
        inputs: the column of each input of the engine; by default inputs and columns have the same
            names.
        outputs: the column of each output that is wanted; by default all, under their names.
        device: as for :class:`trtnet.Session`. With ``num_gpus=1`` Ray shows an actor one GPU.
        runtime, engine_host_code_allowed: as for :class:`trtnet.Session`.

    A call takes a dictionary of numpy arrays, whose first axis is the batch, and returns the
    columns that are no inputs, and the outputs. Batches may be shorter than ``batch_size``, as the
    last one is; an engine with a fixed batch size gets them in pieces, padded. Ray's arrays are
    read only, and stay so.

    Raises:
        UsageError: `engine` is no path; an input or output that the engine does not have; a column
            that is missing, or would be there twice.
        PlanError, BackendError: the engine is damaged, or cannot run here.

    >>> import numpy, trtnet
    >>> net = trtnet.Network(backend="torch")
    >>> _ = net.output("y", net.input("x", (4, 3)) * 2.0)
    >>> trtnet.build(net).save("double.engine")
    >>> predict = Predictor("double.engine", inputs={"x": "pixels"}, device="cpu")
    >>> batch = {"pixels": numpy.ones((3, 3), "float32"), "path": numpy.array(["a", "b", "c"])}
    >>> found = predict(batch)
    >>> sorted(found), found["y"].shape
    (['path', 'y'], (3, 3))
    >>> import os; os.remove("double.engine"); os.remove("double.engine.json")
    """

    def __init__(
        self,
        engine: str | os.PathLike[str],
        *,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        device: str = "auto",
        runtime: str = "torch",
        engine_host_code_allowed: bool = False,
    ) -> None:
        if not isinstance(engine, str | os.PathLike):
            raise UsageError(
                "a Predictor opens its engine in the process where it runs",
                expected="the path of an engine file",
                got=type(engine).__name__,
                fix="save the plan, and give the path",
            )
        self.session = open_on_node(
            Path(engine),
            device,
            runtime=runtime,
            engine_host_code_allowed=engine_host_code_allowed,
        )
        try:
            self._inputs = _columns("inputs", inputs, [x.name for x in self.session.inputs])
            self._outputs = _columns("outputs", outputs, [x.name for x in self.session.outputs])
            missing = {x.name for x in self.session.inputs} - {*self._inputs}
            if missing:
                raise UsageError(f"no column is named for the input {sorted(missing)[0]!r}")
        except BaseException:
            self.session.close()
            raise

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The outputs for a batch, and its columns that are no inputs.

        Raises:
            UsageError: a column is missing, or has an array per row; a column and an output have
                one name.
            ShapeError, ExecutionError: as of :class:`trtnet.Session`.
        """
        arrays = {name: _array(batch, column) for name, column in self._inputs.items()}
        taken = {*self._inputs.values()}
        found: dict[str, Any] = {k: v for k, v in batch.items() if k not in taken}
        results = self.session(arrays)
        for name, column in self._outputs.items():
            if column in found:
                raise UsageError(
                    f"{column!r} is a column of the batch and an output of the engine",
                    fix=f"name the output's column: outputs={{{name!r}: ...}}",
                )
            found[column] = results[name]
        return found


def _columns(what: str, given: Mapping[str, str] | None, names: list[str]) -> dict[str, str]:
    """The column of each tensor of the engine that is used."""
    if given is None:
        return {name: name for name in names}
    unknown = [name for name in given if name not in names]
    if unknown or not given:
        raise UsageError(
            f"the engine has no {unknown[0]!r}" if unknown else "none is named",
            module=what,
            expected=", ".join(names),
        )
    return dict(given)


def _array(batch: Mapping[str, np.ndarray], column: str) -> np.ndarray:
    if column not in batch:
        raise UsageError(
            f"the batch has no column {column!r}",
            got=", ".join(batch),
            fix="inputs= names the column of each input",
        )
    array = batch[column]
    if not isinstance(array, np.ndarray) or array.dtype == object:
        raise UsageError(
            f"the column {column!r} is no array of numbers",
            expected="rows of one shape",
            got=getattr(array, "dtype", type(array).__name__),
            fix="prepare the images to one size, and take batch_format='numpy'",
        )
    return array
