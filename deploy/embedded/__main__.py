"""Run ``python -m deploy.embedded --help``."""

import sys

from deploy.embedded.cli import main

if __name__ == "__main__":
    sys.exit(main())
