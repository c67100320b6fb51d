"""Engines in servers and on clusters.

:mod:`trtnet.serving.triton` writes model repositories of the Triton Inference Server, and
:mod:`trtnet.serving.metrics` reports sessions to Prometheus.
"""
