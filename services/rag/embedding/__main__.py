"""Embeds until its input ends: `python -I …/embedding/__main__.py <directory> <threads> <niceness>`.

Says {"ready": <width>} or {"error": …} once. Then a line `["text", …]` is answered by a line with the number of vectors, and
the vectors: float32, little endian.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3]))  # isolated: it finds what is installed, and us

from services.rag.embedding.graph import WIDTH
from services.rag.embedding.minilm import MiniLM
from services.rag.embedding.published import NoModel


def main(directory: str, threads: str, niceness: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for the service, which closes our input
    logging.getLogger().setLevel(logging.ERROR)  # the quantizer recommends what does not fit here
    os.nice(int(niceness))
    try:
        model = MiniLM(Path(directory), int(threads))
    except (NoModel, OSError) as error:
        _say({"error": str(error)})
        return
    _say({"ready": WIDTH})
    for line in sys.stdin.buffer:
        vectors = model.vectors(json.loads(line))
        sys.stdout.buffer.write(b"%d\n" % len(vectors) + vectors.astype("<f4").tobytes())
        sys.stdout.buffer.flush()


def _say(what: dict[str, object]) -> None:
    sys.stdout.buffer.write(json.dumps(what).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
