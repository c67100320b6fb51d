"""Ways to run parts of a graph on a GPU, of which the fastest is found by measuring."""
