"""Why a run does not go on: what waits, the exact reason, until when, and what will release it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fluidcrew.progress import FINAL, moment
from fluidcrew.render import words

FOLDED = "dependency"  # what waits for nothing but others is not why a run stands still
FEW = 3
COLOUR = {
    "failed_dependency": "red",
    "paused": "yellow",
    "budget": "yellow",
    "verdict": "magenta",
    "provider": "yellow",
    "retry": "yellow",
    "running": "cyan",
}
Item = Mapping[str, Any]


def waiting_block(title: str, found: Mapping[str, Any], *, everything: bool) -> Iterator[RenderableType]:
    items: Sequence[Item] = found["items"]
    status = str(found["status"])
    yield Text.assemble(("Run ", "bold"), (title, "bold"), (f"  {status}", words.colour(status)))
    if not items:
        yield Text(f"nothing waits: it is {status}" if status in FINAL else "nothing waits")
        return
    blocked = [item for item in items if item["reason"] == FOLDED]
    folded = [] if everything or len(blocked) <= FEW or len(blocked) == len(items) else blocked
    yield waiting_table([item for item in items if item not in folded])
    if folded:
        keys = words.one_line(", ".join(str(item["key"]) for item in folded), 50)
        yield Text(f"{len(folded)} more wait for other nodes: {keys} (--all shows each)", style="bright_black")


def waiting_table(items: Sequence[Item]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("what", overflow="fold", max_width=24)
    table.add_column("why", ratio=3)
    table.add_column("until", no_wrap=True)
    table.add_column("what releases it", ratio=2)
    for item in items:
        table.add_row(_what(item), _why(item), _until(item), str(item["release"]))
    return table


def _what(item: Item) -> Text:
    status = str(item["status"])
    name = "the run" if item["what"] == "run" else str(item["key"])
    return Text.assemble((name, "bold"), "\n", (status, words.colour(status)))


def _why(item: Item) -> Text:
    reason = str(item["reason"])
    detail = words.person(item["detail"])
    return Text.assemble((reason.replace("_", " "), COLOUR.get(reason, "bright_black")), f": {detail}")


def _until(item: Item) -> str:
    at = moment(item.get("until"))
    return words.clock(at) if at else "-"
