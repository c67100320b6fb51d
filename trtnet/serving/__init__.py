"""Engines in servers and on clusters.

:mod:`trtnet.serving.triton` writes model repositories of the Triton Inference Server, and
:mod:`trtnet.serving.metrics` reports sessions to Prometheus. :mod:`trtnet.serving.batch` is the
work on very many images, in parts that survive a kill; :mod:`trtnet.serving.ray` runs it on Ray,
and has the :class:`trtnet.serving.ray.Predictor` for pipelines of one's own.
"""
