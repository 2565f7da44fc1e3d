"""`python -m profkit` is the command `profkit`."""

import sys

from profkit.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
