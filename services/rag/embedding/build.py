"""Builds the local model's graph beside what is installed: `python -I …/embedding/build.py`, once, at set-up."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))  # isolated: it finds what is installed, and us

from services.rag.embedding.graph import INSTALLED, graph_file
from services.rag.embedding.published import NoModel


def main() -> int:
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer recommends what does not fit here
    try:
        graph_file(INSTALLED)
    except (NoModel, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
