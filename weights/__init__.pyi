"""Public names of trtnet.weights, with their types; they are imported on first use."""

from ..finite import check_finite as check_finite
from ..pipeline.extracting import extract as extract
from ..zoo.converting import convert as convert
from ..zoo.timm_weights import from_timm as from_timm
from .container import Weights as Weights, data_sha256 as data_sha256
from .container import parameter_count as parameter_count
from .loading import fitted as fitted, load as load, loads as loads
from .lora import with_lora as with_lora
from .random_init import random_state as random_state
from .safetensors_writer import dumps as dumps, save as save
from .torchvision_source import resolve as resolve
