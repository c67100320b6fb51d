"""Boxes and scores from the raw maps of YOLO's detection heads."""
