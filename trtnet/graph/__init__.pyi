"""Public names of trtnet.graph, with their types; they are imported on first use."""

from ..analysis import (
    ATTRIBUTIONS as ATTRIBUTIONS,
    Bound as Bound,
    Cost as Cost,
    Diff as Diff,
    Difference as Difference,
    LayerBound as LayerBound,
    LayerCost as LayerCost,
    PartCost as PartCost,
    Share as Share,
    attribute as attribute,
    cost as cost,
    diff as diff,
    macs as macs,
)
from .archive import dumps as dumps, load as load, loads as loads, save as save
from .gpu_table import (
    Gpu as Gpu,
    find_gpu as find_gpu,
    gpus as gpus,
    load_ceilings as load_ceilings,
    save_ceilings as save_ceilings,
)
from .linting import Finding as Finding, explain as explain, lint as lint
from .reader import read as read
from .types import Graph as Graph, Layer as Layer, TensorInfo as TensorInfo
from .types import parameters as parameters
