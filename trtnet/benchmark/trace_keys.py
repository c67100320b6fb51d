"""What trtexec calls the times of a query in the files of ``--exportTimes``."""

KEYS = {
    "enqueue_start": "startEnqMs",
    "enqueue_end": "endEnqMs",
    "h2d_start": "startH2dMs",
    "h2d_end": "endH2dMs",
    "compute_start": "startComputeMs",
    "compute_end": "endComputeMs",
    "d2h_start": "startD2hMs",
    "d2h_end": "endD2hMs",
    "h2d": "h2dMs",
    "compute": "computeMs",
    "d2h": "d2hMs",
    "latency": "latencyMs",
}
"""The keys of trtexec's ``--exportTimes``, by the attribute of :class:`trtnet.benchmark.Query`."""
