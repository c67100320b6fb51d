"""Sections of ``tools/faults.py``: one file each, with a subclass of :class:`base.Section`."""
