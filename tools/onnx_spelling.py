"""Other spellings of an ONNX model, so that TensorRT's parser cannot leave anything of it out.

Nothing here knows an operator: what a default is, and what an operator stands for, comes from the
schemas of the ``onnx`` package, and its own inliner puts it into the model.
"""

from __future__ import annotations

import onnx
from onnx import inliner


def with_defaults(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each attribute that the model leaves out is given the default that `onnx.defs` has for it."""
    spelled = _copy(model)
    for node in spelled.graph.node:
        given = {attribute.name for attribute in node.attribute}
        for name, attribute in _schema(spelled, node).attributes.items():
            if name not in given and attribute.default_value.name:
                node.attribute.append(attribute.default_value)
    onnx.checker.check_model(spelled, full_check=True)
    return spelled


def with_function_body(model: onnx.ModelProto) -> onnx.ModelProto:
    """`onnx.inliner` replaces the operator with the function that defines it in `onnx.defs`."""
    spelled = with_defaults(model)
    types = {value.name: value.type for value in spelled.graph.input}
    (node,) = spelled.graph.node
    schema = _schema(spelled, node)
    body = schema.get_context_dependent_function_with_opset_version(  # type: ignore[attr-defined]
        _opset(spelled, node.domain),
        node.SerializeToString(),
        [types.get(name, onnx.TypeProto()).SerializeToString() for name in node.input],
    )
    # As a function of the model, because the inliner of onnx 1.23 fails on an optional input that
    # is left out where it looks for the body itself.
    spelled.functions.append(onnx.FunctionProto.FromString(body))
    spelled = inliner.inline_local_functions(spelled)
    onnx.checker.check_model(spelled, full_check=True)
    return spelled


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _opset(model: onnx.ModelProto, domain: str) -> int:
    versions: dict[str, int] = {opset.domain: opset.version for opset in model.opset_import}
    return versions[domain]


def _schema(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.defs.OpSchema:
    return onnx.defs.get_schema(node.op_type, _opset(model, node.domain), node.domain)
