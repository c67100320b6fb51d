"""The version of trtnet."""

__version__ = "0.1.0"
