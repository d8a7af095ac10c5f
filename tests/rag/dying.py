"""A rag that kills itself between two steps, once it is armed: `python -m tests.rag.dying "fetched, not read" <file>`.

The product has no switch for it: this main wraps the product's own part, and runs the product's own main. It is armed
when the file is there.
"""

from __future__ import annotations

import itertools
import os
import runpy
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.points import located


@dataclass(frozen=True, slots=True)
class Point:
    """`target` is `module:attribute`, or `module:Class.method`. `only`: passings that hand over such a fact."""

    name: str
    target: str
    after: bool = False
    nth: int = 1
    only: str = ""


HANDLERS, STORE = "services.rag.handlers", "services.rag.store"
STEPS, INDEX = f"{STORE}.ingestion:IngestionStore", f"{STORE}.index:IndexStore"
INDEXES, REMAKING = f"{STORE}.indexes:IndexesStore", f"{HANDLERS}.reembedding:Reembedding"
SUPERSEDING = f"{HANDLERS}.superseding:Superseding"
INGESTING = (
    Point("begun, not fetched", f"{STEPS}.enter", True),
    Point("fetched, not read", "chassis.blobs:Blobs.get_file", True),
    Point("read, its text is not kept", "services.rag.adapters.parser:Parser.parse", True),
    Point("its text is kept, nobody names it", f"{STEPS}.has_text"),
    Point("its text is named, it is not cut", f"{STEPS}.begin_cut", True),
    Point("chunks are there, nobody knows that they are all", f"{INDEX}.build", True),
    Point("cut, not embedded", f"{STEPS}.is_cut", True),
    Point("some vectors are written, not committed", f"{INDEX}.add_vectors", True),
    Point("some vectors are there", f"{STEPS}.unembedded", nth=3),
    Point("all vectors are there, it is not in place", f"{HANDLERS}.ingesting:Ingesting._publish"),
    Point("in place, not committed", f"{HANDLERS}.ingesting:make_ready", True),
    Point("in place, nobody is told", "chassis.relay:Relay.hand_over", only=".document.ready."),
    Point("told, its worker is not done", f"{HANDLERS}.ingesting:Ingesting.work", True),
)
REMOVING = (
    Point("out of the index, not committed", f"{INDEX}.drop", True),
    Point("all of it is gone, not committed", f"{HANDLERS}.effects:Removing.remove", True),
    Point("removed, nobody is answered", f"{HANDLERS}.documents:Documents.remove", True),
    Point("its bytes are doomed, not deleted", "chassis.depot:Depot.delete"),
    Point("its bytes are deleted, not forgotten", "chassis.objects:Objects.forget"),
)
REEMBEDDING = (
    Point("some vectors are made anew", f"{STEPS}.unembedded", nth=2),
    Point("a document is made anew, nothing is in the next index", f"{REMAKING}._add"),
    Point("chunks are in the next index, not committed", f"{INDEX}.add_some", True),
    Point("a document stands in the next index, not committed", f"{INDEXES}.stands", True),
    Point("a document stands in the next index", f"{REMAKING}._add", True),
    Point("all stand in the next index, it is not adopted", f"{REMAKING}._adopt"),
    Point("adopted, not committed", f"{INDEXES}.adopt", True),
    Point("adopted, nobody is told", f"{SUPERSEDING}._tell"),
    Point("told of, not committed", f"{INDEXES}.announced", True),
    Point("told of, what was searched before is there", f"{SUPERSEDING}._tell", True),
    Point("some of what was searched before is gone, not committed", f"{INDEXES}.clear", True),
    Point("some of what was searched before is gone", f"{INDEXES}.clear", nth=2),
)


def die_at(point: Point, armed: Path) -> None:
    """The nth passing while it is armed is the end of this process."""
    owner, attribute = located(point.target)
    inner, passes = getattr(owner, attribute), itertools.count(1)

    def passed(arguments: tuple[Any, ...]) -> None:
        if armed.exists() and _tells(point.only, arguments) and next(passes) == point.nth:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, attribute, _wrapped(inner, passed, point.after))


def _wrapped(inner: Callable[..., Any], passed: Callable[[tuple[Any, ...]], None], after: bool) -> Callable[..., Any]:
    async def wrapped(*arguments: Any, **named: Any) -> Any:
        if not after:
            passed(arguments)
        result = await inner(*arguments, **named)
        if after:
            passed(arguments)
        return result

    return wrapped


def _tells(only: str, arguments: tuple[Any, ...]) -> bool:
    return not only or any(only in row.subject for batch in arguments[1] for row in batch.rows)


async def _not_needed(*_: object) -> None:
    """The local model: the spaces of these tests have others."""


if __name__ == "__main__":
    name, file = sys.argv[1:]
    die_at(next(p for p in (*INGESTING, *REMOVING, *REEMBEDDING) if p.name == name), Path(file))
    owner, attribute = located("services.rag.adapters.vectors:Vectors.warm")
    setattr(owner, attribute, _not_needed)
    sys.argv = ["services.rag"]
    runpy.run_module("services.rag", run_name="__main__")
