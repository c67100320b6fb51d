"""class_map: the class of every pixel, from logits at low resolution."""
