"""Plugins: what they compute is what their declaration's reference computes."""

from __future__ import annotations

from trtnet.graph.plugins import identity
from trtnet.plugins import registry
from trtnet.plugins.running import reference
from trtnet.reference.site import Call, Site


def plugin(site: Site) -> Call:
    if "fields" not in site.layer.attributes:
        raise site.unsupported(
            "layers of type PLUGIN_V3 can be executed where trtnet.plugin declares them",
            site["plugin_name"],
        )
    name, version = identity(site.layer)
    registry.find(name, version, site.layer.name)
    dtypes = tuple(site.output_dtype(i) for i in range(len(site.layer.outputs)))
    return Call(reference, (name, version, site["fields"], dtypes, *site.inputs))


OPERATIONS = {"PLUGIN_V3": plugin}
