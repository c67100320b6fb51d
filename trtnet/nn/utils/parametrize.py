"""``torch.nn.utils.parametrize``: asking for parametrizations, and removing them."""

from __future__ import annotations

import numpy as np

from trtnet.module import Module, Parameter


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether `module` has a parametrization, or one of its parameter `tensor_name`."""
    held = module._modules.get("parametrizations")
    if held is None:
        return False
    return len(held) > 0 if tensor_name is None else tensor_name in held


def remove_parametrizations(
    module: Module, tensor_name: str, leave_parametrized: bool = True
) -> Module:
    """`module` with a plain parameter `tensor_name`, of the value that it has; of the original
    value without `leave_parametrized`, where there is one.

    Raises:
        ValueError: it has no parametrization.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"{type(module).__name__}.{tensor_name} has no parametrization")
    held = module.get_submodule("parametrizations")
    weight = module.__dict__[tensor_name]
    original = held[tensor_name]._parameters.get("original")
    if leave_parametrized:
        has_values = weight.has_values
        values = np.array(weight.require(tensor_name)) if has_values else None
        original = Parameter.empty(weight.shape) if values is None else Parameter(values)
    elif original is None:
        raise ValueError("there is no single original value: use leave_parametrized=True")
    del held[tensor_name]
    if not len(held):
        delattr(module, "parametrizations")
    delattr(module, tensor_name)
    module.register_parameter(tensor_name, original)
    return module
