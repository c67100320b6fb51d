"""normalize_image: bytes to a network's input, resized, normalized, channels first."""
