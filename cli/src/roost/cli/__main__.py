"""`python -m roost.cli` is `roost`."""

import sys

from roost.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
