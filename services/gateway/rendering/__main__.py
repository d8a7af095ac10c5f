"""Makes a page's body: `python -I …/rendering/__main__.py <content type> < text`; says it in JSON.

{"body": …}, or a word of confined_worker.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))  # isolated: it finds what is installed, and us

from chassis.confined_worker import Limits, answer
from services.gateway.domain.pages import body

LIMITS = Limits(memory=512 * 2**20, cpu=3, wall=15, written=0, files=16)


def main(content_type: str) -> None:
    answer(LIMITS, lambda: {"body": body(sys.stdin.buffer.read().decode(), content_type)})


if __name__ == "__main__":
    main(*sys.argv[1:])
