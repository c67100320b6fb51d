"""Certificates: what one machine's GPU, driver and version of TensorRT compute, case by case."""
