"""The analysis of each rank, fanned out: one after the other here, in a pool of processes, or on a dask cluster.

The function is the same in all three (`answers.answer`). What goes to a worker is how to open one rank; what comes
back is that rank's part, encoded, or the reason why there is none. So nobody holds more than one rank's trace, and a
rank that cannot be read, or whose worker dies, costs that rank alone.
"""

ENGINES = ("auto", "serial", "processes", "dask")
