"""Weights on disk, from torchvision, timm and tensorrtx. Importing this needs only numpy."""

from __future__ import annotations

from trtnet.finite import check_finite
from trtnet.weights.container import Weights, data_sha256, parameter_count
from trtnet.weights.converting import convert
from trtnet.weights.loading import load, loads
from trtnet.weights.random_init import random_state
from trtnet.weights.safetensors_writer import dumps, save
from trtnet.weights.timm_source import from_timm
from trtnet.weights.torchvision_source import extract, resolve

__all__ = [
    "Weights",
    "check_finite",
    "convert",
    "data_sha256",
    "dumps",
    "extract",
    "from_timm",
    "load",
    "loads",
    "parameter_count",
    "random_state",
    "resolve",
    "save",
]
