"""``python -m fieldguide`` is the command ``fieldguide``."""

import sys

from fieldguide.cli import main

if __name__ == "__main__":
    sys.exit(main())
