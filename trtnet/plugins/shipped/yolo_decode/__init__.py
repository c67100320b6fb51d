"""yolo_decode: boxes and scores from the raw map of a YOLO detection head."""
