"""Engines: sessions that run them, and the loaded engines of each backend."""
