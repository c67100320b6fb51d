"""Public names of trtnet.pipeline, with their types; they are imported on first use."""

from .ability import Ability as Ability, abilities as abilities
from .calibration import Calibrated as Calibrated, Calibrator as Calibrator
from .defined import (
    Comparison as Comparison,
    DefinedModel as DefinedModel,
    LoadedModel as LoadedModel,
)
from .definition import define as define, mark_outputs as mark_outputs
from .image_session import open_image_session as open_image_session
from .machine import Machine as Machine, examine as examine
from .model import load_weights as load_weights, torch_model as torch_model
from .preprocessing import (
    Preparation as Preparation,
    StatedPreprocessing as StatedPreprocessing,
    preparation_for as preparation_for,
    preprocessing_of as preprocessing_of,
    state_preprocessing as state_preprocessing,
)
from .progress import Counted as Counted, Observer as Observer, Silent as Silent
from .recipe import (
    CalibrationSettings as CalibrationSettings,
    InputSpec as InputSpec,
    Recipe as Recipe,
)
from .running import (
    PreparedRecipe as PreparedRecipe,
    Result as Result,
    prepare as prepare,
    run as run,
)
from .search_setup import (
    SearchSettings as SearchSettings,
    SearchSetup as SearchSetup,
    set_up_search as set_up_search,
)
from .shapes import InputShapes as InputShapes
from .target import Target as Target, find_target as find_target, load_model as load_model
from .verification import verify_batches as verify_batches, verify_in_float64 as verify_in_float64
