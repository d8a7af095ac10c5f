"""What waits for a person's verdict: as a table, and one node with all that deciding needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fluidcrew.progress import moment
from fluidcrew.render import words
from fluidcrew.render.verdicts import verdict_words

Held = Mapping[str, Any]
NOTHING_WAITS = "nothing waits for a verdict"
NO_VERDICT = "no verdict came in time"
PREVIEW = 1_200  # characters


def reviews_table(held: Sequence[Held], *, numbered: bool = False, now: datetime | None = None) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name in ("#", "node", "score", "waits for"):
        if numbered or name != "#":
            table.add_column(name, justify="left" if name == "node" else "right", no_wrap=True)
    table.add_column("what, and why", overflow="fold", ratio=1)
    for number, node in enumerate(held, 1):
        table.add_row(*([str(number)] if numbered else []), *_cells(node, now or datetime.now(UTC)))
    return table


def _cells(node: Held, now: datetime) -> tuple[RenderableType, ...]:
    since = moment(node["since"])
    what = Text.assemble(
        (words.one_line(str(node["key"]), 64), "bold"), f" · {words.one_line(str(node['run_title']), 60)}"
    )
    return (
        Text(words.short_id(node["node_id"]), style="bright_black"),
        _score(node.get("verdict")),
        words.duration(max(0.0, (now - since).total_seconds())) if since else "",
        what.append(f"\n{words.one_line(_critique(node), 160)}", style="yellow"),
    )


def _score(verdict: Mapping[str, Any] | None) -> Text:
    score = verdict.get("score") if verdict else None
    return Text("–" if score is None else str(score), style="bright_black" if score is None else "red")


def _critique(node: Held) -> str:
    verdict = node.get("verdict")
    return str(verdict.get("critique") or "") if verdict else NO_VERDICT


def held_block(node: Held) -> Iterator[RenderableType]:
    """One of them, from top to bottom: what it is, what was said of it, what it wrote, what waits for it."""
    title = words.one_line(str(node["title"]), 100)
    yield Text.assemble((str(node["key"]), "bold cyan"), f" {title}  ", (str(node["status"]), "yellow"))
    run = f"run {words.short_id(node['run_id'])} {words.one_line(str(node['run_title']), 60)}"
    yield Text(" · ".join([run, f"attempt {node['attempt']}", *_who(node)]), style="bright_black")
    verdict = node.get("verdict")
    yield Text(verdict_words(verdict) if verdict else NO_VERDICT, style="yellow")
    if preview := node.get("output_preview"):
        shown = str(preview)
        yield Padding(Text(shown if len(shown) <= PREVIEW else shown[:PREVIEW].rstrip() + " …"), (1, 2))
    if waits := node.get("descendants"):
        yield Text(f"for it wait: {words.one_line(', '.join(map(str, waits)), 160)}", style="bright_black")


def _who(node: Held) -> list[str]:
    return [str(node[name]) for name in ("role", "agent_id") if node.get(name)]
