"""``python -m trtnet.weights``."""

import sys

from trtnet.cli.weights import main

if __name__ == "__main__":
    sys.exit(main())
