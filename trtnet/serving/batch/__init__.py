"""``trtnet batch``: an engine on very many images.

The images of a run are divided into parts of some hundred. A worker reads, prepares and executes
the images of one part and writes its table, all of it or nothing; what has been written is not done
again. At the end the parts become one Parquet file, in the order of the images.
"""
