"""Public names of trtnet.tasks, with their types; they are imported on first use."""

from .classifier import (
    Classification as Classification,
    Classifier as Classifier,
    ScoredClass as ScoredClass,
)
from .compared_detector import (
    ComparedBox as ComparedBox,
    ComparedDetection as ComparedDetection,
    ComparedDetector as ComparedDetector,
    ScoredBox as ScoredBox,
)
from .detector import (
    DetectedObject as DetectedObject,
    Detection as Detection,
    Detector as Detector,
)
from .pictures import Failure as Failure
from .segmenter import (
    Segmentation as Segmentation,
    Segmenter as Segmenter,
    SharedClass as SharedClass,
)
