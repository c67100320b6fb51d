"""Public names of trtnet.serving.ray, with their types; they are imported on first use."""

from ..batch.running import (
    BatchResult as BatchResult,
    BatchSettings as BatchSettings,
    Progress as Progress,
)
from .cluster import run_batch as run_batch
from .predictor import Predictor as Predictor
