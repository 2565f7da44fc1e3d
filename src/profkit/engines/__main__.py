"""One process of the pool: `python -m profkit.engines FD`."""

import sys
from multiprocessing.connection import Connection

from profkit.engines.processes import serve

serve(Connection(int(sys.argv[1])))
