"""Cuts one text: `python -I …/cutting/__main__.py <manner> <text> <into>`; says in JSON that it has.

{"passages": …} when so many are in <into>, one on a line; else a word of confined_worker.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))  # isolated: it finds what is installed, and us
os.environ["TOKENIZERS_PARALLELISM"] = "false"  # it may start no thread

from chassis.confined_worker import Limits, answer
from services.rag.domain.parsed import Parsed
from services.rag.domain.passages import Manner, passages
from services.rag.embedding.counting import window_of

MIB = 2**20
NICENESS = 5  # questions go first
#: it only computes: on a machine that has no time for it, it may wait for long
LIMITS = Limits(memory=1024 * MIB, cpu=120, wall=600, written=512 * MIB, files=32)


def main(manner: str, text: str, into: str) -> None:
    def written() -> dict[str, object]:
        how, count = Manner.of_json(Path(manner).read_bytes()), 0
        parsed = Parsed.of_json(Path(text).read_bytes())
        with Path(into).open("wb") as file:
            for one in passages(parsed, how, window_of(how.provider)):
                file.write(one.as_json() + b"\n")
                count += 1
        return {"passages": count}

    os.nice(NICENESS)
    answer(LIMITS, written)


if __name__ == "__main__":
    main(*sys.argv[1:])
