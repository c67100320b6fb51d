"""``python -m trtnet.zoo``."""

import sys

from trtnet.cli.zoo import main

if __name__ == "__main__":
    sys.exit(main())
