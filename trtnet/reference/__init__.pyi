"""Public names of trtnet.reference, with their types; they are imported on first use."""

from .compiler import compile as compile
from .runner import run as run
