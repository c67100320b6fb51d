"""Requests and responses of Triton's Python backend, whose module exists only in the server."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtnet.errors import ShapeError, TrtnetError

Arrays = dict[str, Any]
"""Arrays of numpy, or tensors of torch on a GPU, by name."""


def backend_module() -> Any:
    """``triton_python_backend_utils``, which the server puts on the path of its models."""
    return importlib.import_module("triton_python_backend_utils")


@dataclass(frozen=True)
class ModelPlace:
    """What the server tells a model when it is loaded.

    Attributes:
        config: the configuration, completed by the server.
        folder: of the version, with the files of the model.
        device: for :class:`trtnet.Session`: ``"cpu"``, or ``"cuda:0"``.
        name, version: of the model.
    """

    config: Mapping[str, Any]
    folder: Path
    device: str
    name: str
    version: str

    @classmethod
    def of(cls, args: Mapping[str, str]) -> ModelPlace:
        """The arguments of ``initialize``."""
        is_gpu = args["model_instance_kind"] == "GPU"
        return cls(
            json.loads(args["model_config"]),
            Path(args["model_repository"]) / args["model_version"],
            f"cuda:{args['model_instance_device_id']}" if is_gpu else "cpu",
            args["model_name"],
            args["model_version"],
        )

    @property
    def is_batched(self) -> bool:
        """Whether the first axis of everything is a batch."""
        return int(self.config["max_batch_size"]) > 0

    @property
    def inputs(self) -> list[str]:
        """Names of the inputs, in order."""
        return [each["name"] for each in self.config["input"]]


def inputs_of(utils: Any, request: Any, names: Sequence[str]) -> Arrays:
    """The inputs of a request: views of the memory in which the server has them."""
    return {name: _array(utils.get_input_tensor_by_name(request, name)) for name in names}


def response_of(utils: Any, request: Any, outputs: Mapping[str, Any]) -> Any:
    """A response with those of `outputs` that the request asks for."""
    asked = set(request.requested_output_names())
    return utils.InferenceResponse(
        [_tensor(utils, name, array) for name, array in outputs.items() if name in asked]
    )


def failure_of(utils: Any, error: BaseException) -> Any:
    """A response that says what is wrong with a request."""
    text = str(error) if isinstance(error, TrtnetError) else f"{type(error).__name__}: {error}"
    return utils.InferenceResponse(error=utils.TritonError(text))


def answer_each(
    utils: Any,
    requests: Sequence[Any],
    names: Sequence[str],
    answer: Callable[[Arrays], Mapping[str, Any]],
) -> list[Any]:
    """The response to each of `requests` by itself; one that fails does not harm the others.

    Args:
        utils: :func:`backend_module`.
        requests: of ``execute``.
        names: of the inputs.
        answer: makes outputs of inputs.
    """
    responses = []
    for request in requests:
        try:
            outputs = answer(inputs_of(utils, request, names))
            responses.append(response_of(utils, request, outputs))
        except (TrtnetError, MemoryError) as error:
            responses.append(failure_of(utils, error))
    return responses


def joined(parts: Sequence[Arrays]) -> Arrays:
    """The batches `parts` as one; a single one as it is, without a copy.

    Raises:
        ShapeError: they have different shapes.
    """
    if len(parts) == 1:
        return parts[0]
    return {name: _concatenated(name, [part[name] for part in parts]) for name in parts[0]}


def _concatenated(name: str, arrays: Sequence[Any]) -> Any:
    shapes = {tuple(array.shape[1:]) for array in arrays}
    if len(shapes) > 1:
        raise ShapeError("requests of different shapes are in one batch", module=name,
                         got=", ".join(map(str, sorted(shapes))))  # fmt: skip
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np.concatenate(arrays)
    return sys.modules["torch"].cat(arrays)  # imported when the tensors were read


def _array(tensor: Any) -> Any:
    if tensor.is_cpu():
        return tensor.as_numpy()
    import torch

    return torch.from_dlpack(tensor)


def _tensor(utils: Any, name: str, array: Any) -> Any:
    if isinstance(array, np.ndarray):
        return utils.Tensor(name, np.ascontiguousarray(array))
    return utils.Tensor.from_dlpack(name, array.contiguous())
