"""Studies: one table of a network with what trtnet knows of each operation and each module.

:func:`trtnet.study` makes one; docs/study.md explains the columns.
"""
