"""PyTorch's functions, called on trtnet's tensors: which operator of trtnet each one is.

PyTorch hands every function, method and operator that gets a :class:`trtnet.Tensor` to
``Tensor.__torch_function__``; see :func:`trtnet.torch_functions.calling.call_torch_function`.
"""
