"""Quantized values in 8 bits, as tensor cores multiply them, from one layer to the next."""
