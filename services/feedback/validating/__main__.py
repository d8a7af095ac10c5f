"""Holds a result against its declared format: `python -I …/validating/__main__.py < {"text": …, "params": …}`.

It says a Judgement in JSON, or a word of confined_worker.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))  # isolated: it finds what is installed, and us

from chassis.confined_worker import Limits, answer
from services.feedback.domain.formats import judgement

LIMITS = Limits(memory=512 * 2**20, cpu=3, wall=15, written=0, files=16)

if __name__ == "__main__":
    answer(LIMITS, lambda: asdict(judgement(**json.load(sys.stdin.buffer))))
