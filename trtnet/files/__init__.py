"""Files that are written: whole or not at all, never over an input, with nothing left behind."""

from trtnet.files.atomic import atomic_write, is_full, reserve

__all__ = ["atomic_write", "is_full", "reserve"]
