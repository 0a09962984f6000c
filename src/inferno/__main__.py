"""`python -m inferno` is the `inferno` command."""

import sys

from inferno.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
