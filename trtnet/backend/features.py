"""Features of the bindings: members of TensorRT's Python packages that some versions lack."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

# Features that some supported versions lack, each with its members of the binding. All other
# members that trtnet uses are in every supported version.
FEATURES: Mapping[str, tuple[str, ...]] = {
    "compute_capabilities": (
        "ComputeCapability",
        "IBuilderConfig.num_compute_capabilities",
        "IBuilderConfig.set_compute_capability",
    ),
    "cuda_graph_strategy": (
        "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
        "IRuntimeConfig.cuda_graph_strategy",
    ),
    "engine_validity": (
        "EngineInvalidityDiagnostics",
        "Runtime.engine_header_size",
        "Runtime.get_engine_validity",
    ),
    "include_refit": ("SerializationFlag.INCLUDE_REFIT",),
    "normalization_v2": ("INetworkDefinition.add_normalization_v2",),
    "plugins": (
        "INetworkDefinition.add_plugin_v3",
        "IPluginV3QuickAOTBuild",
        "KernelLaunchParams",
        "QuickPluginCreationRequest.STRICT_AOT",
    ),
    "runtime_cache": (
        "IRuntimeCache.deserialize",
        "IRuntimeCache.serialize",
        "IRuntimeConfig.create_runtime_cache",
        "IRuntimeConfig.set_runtime_cache",
    ),
    "stream_capturable": ("IExecutionContext.is_stream_capturable",),
}


def has_feature(binding: ModuleType, feature: str) -> bool:
    """Whether the imported package `binding` has all members of one of the :data:`FEATURES`.

    Raises:
        KeyError: no such feature.
    """
    return all(_has_member(binding, path) for path in FEATURES[feature])


def _has_member(binding: ModuleType, path: str) -> bool:
    found: Any = binding
    for name in path.split("."):
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True
