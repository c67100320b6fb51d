"""Public names of trtnet, with their types; `trtnet.lazy_imports` imports them on first use."""

from . import (
    amp as amp,
    autograd as autograd,
    backend as backend,
    benchmark as benchmark,
    cuda as cuda,
    engines as engines,
    fx as fx,
    graph as graph,
    hub as hub,
    jit as jit,
    nn as nn,
    ops as ops,
    pipeline as pipeline,
    plugins as plugins,
    quantization as quantization,
    reference as reference,
    search as search,
    tasks as tasks,
    utils as utils,
    weights as weights,
    zoo as zoo,
)
from .building.builder import build as build
from .building.options import BuildConfig as BuildConfig
from .building.plan import Plan as Plan
from .building.profiles import Shapes as Shapes
from .dtypes import (
    DType as DType,
    bfloat16 as bfloat16,
    bool_ as bool_,
    float16 as float16,
    float32 as float32,
    int8 as int8,
    int32 as int32,
    int64 as int64,
    uint8 as uint8,
)
from .engines.session import Session as Session
from .errors import (
    BackendError as BackendError,
    BuildError as BuildError,
    CudaError as CudaError,
    ExecutionError as ExecutionError,
    NetworkError as NetworkError,
    OutOfMemoryError as OutOfMemoryError,
    PlanError as PlanError,
    ShapeError as ShapeError,
    TrtnetError as TrtnetError,
    UnsupportedError as UnsupportedError,
    UsageError as UsageError,
    VerificationError as VerificationError,
    WeightsError as WeightsError,
)
from .module import Module as Module, Parameter as Parameter
from .network import Network as Network
from .ops import *
from .plugins.decorator import plugin as plugin
from .precision.policy import Policy as Policy
from .studies.making import study as study
from .studies.study import Study as Study
from .tasks.classifier import Classifier as Classifier
from .tasks.detector import Detector as Detector
from .tasks.segmenter import Segmenter as Segmenter
from .tensor import Axis as Axis, Dim as Dim, Tensor as Tensor
from .torch_modules.conversion import from_torch as from_torch
from .verification import Verification as Verification, verify as verify
from .own_version import __version__ as __version__
