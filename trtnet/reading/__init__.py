"""Files that other programs may have written: opened, parsed and checked before they are used.

Nothing in such a file is executed. Whatever is wrong with one is an error of :mod:`trtnet.errors`
that names the file; reading takes bounded memory and never waits for another process.
"""
