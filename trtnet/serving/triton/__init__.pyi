"""Public names of trtnet.serving.triton, with their types; they are imported on first use."""

from .exporting import Exported as Exported, export as export
from .settings import Settings as Settings
