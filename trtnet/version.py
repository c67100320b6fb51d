"""The version of trtnet: pyproject.toml, sidecars and reports read it here."""

__version__ = "0.1.0"
