"""The torch engine: a read-back graph, executed by PyTorch on a CPU or a CUDA device."""
