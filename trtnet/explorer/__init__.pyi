"""Public names of trtnet.explorer, with their types; they are imported on first use."""

from .assembling import document as document
from .subject import Subject as Subject, subject_of as subject_of
from .writing import write as write
