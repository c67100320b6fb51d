"""DETR and its real-time descendants: detectors that need no suppression."""
