"""Sections of ``tools/faults.py``: one file each, with the subclass of :class:`base.Section` that
has its name. ``storm.py`` raises the interrupts of two of them."""
