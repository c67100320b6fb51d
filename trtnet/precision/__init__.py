"""Which precision each module computes in."""
