"""The old import path of :mod:`trtnet.plugins.reference_execution`."""

from __future__ import annotations

from trtnet.plugins.reference_execution import reference

__all__ = ["reference"]
