"""Damaged files of every kind, made from valid ones that trtnet's own writers wrote.

Each module has a mapping ``CASES``: the name of a kind of file, and a function that makes one file
out of a source of random numbers and gives it to trtnet. It returns if the file is accepted or
refused with an error of :mod:`trtnet.errors`; whatever else it raises is a bug. ``tools/fuzz.py``
runs many cases, the tests in ``tests/reading/test_fuzz.py`` a few of each kind.
"""
