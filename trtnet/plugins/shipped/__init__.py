"""The plugins that come with trtnet, for what people write by hand again and again.

Each folder holds one: ``reference`` is PyTorch, ``native`` the same from TensorRT's layers, and
``kernel`` the same in Triton, a function of CUDA tensors; its ``plan`` says what is launched.
"""
