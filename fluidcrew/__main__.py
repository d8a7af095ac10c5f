"""`python -m fluidcrew` and the console script `fluidcrew`."""

from __future__ import annotations

import sys


def main() -> int:
    from fluidcrew.app import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
