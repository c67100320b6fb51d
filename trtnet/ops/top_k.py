"""The TopK layer, and sorting beyond what it takes: the floor under sort, topk and median."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from trtnet.dtypes import DType, int32, int64
from trtnet.errors import UnsupportedError
from trtnet.ops.elementwise import add, ge, gt, le, logical_or, lt, mul, sub, where
from trtnet.ops.joining import cat
from trtnet.ops.operands import insert_axes, remove_axes
from trtnet.ops.positions import along, gather_axis, iota
from trtnet.ops.shape import expand, reshape, slice_, transpose
from trtnet.tensor import Dim, Tensor

LIMIT = 3840  # TensorRT's largest k
