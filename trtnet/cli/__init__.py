"""Command lines: arguments, progress and reports. Nothing here is needed to use trtnet as a
library."""
