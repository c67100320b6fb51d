"""Kernels that are written for a graph: what is computed element by element, in few launches."""
