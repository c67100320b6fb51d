"""From an engine to production: many images on many GPUs.

:mod:`trtnet.serving.batch` is the work, in parts that survive a kill; :mod:`trtnet.serving.ray`
runs it on Ray, and has the :class:`trtnet.serving.ray.Predictor` for pipelines of one's own.
"""
