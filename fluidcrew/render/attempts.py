"""A node's attempts beside each other: what each was told, what it is worth, what it took, and what it changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fluidcrew.progress import Cost
from fluidcrew.render import words
from fluidcrew.render.verdicts import verdict_words

Attempt = Mapping[str, Any]
STYLE = {"+": "green", "-": "red", "@": "cyan"}


def attempts_block(found: Mapping[str, Any], *, everything: bool) -> Iterator[RenderableType]:
    """The difference that the latest attempt made; with `everything` that of each."""
    items: list[Attempt] = found["items"]
    yield Text.assemble((str(found["key"]), "bold"), f"  {words.count(len(items), 'attempt')}")
    if found.get("degraded"):
        yield Text("the feedback service cannot be asked right now: scores are missing", style="yellow")
    if items:
        yield attempts_table(items)
    for attempt in items:
        yield from _told(attempt)
    changed = [attempt for attempt in items if attempt.get("diff")]
    for attempt in changed if everything else changed[-1:]:
        yield Text(f"what attempt {attempt['number']} changed", style="bold")
        yield diff(str(attempt["diff"]))


def attempts_table(items: list[Attempt]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name in ("", "score", "tokens", "cost", "took"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("state", "verdict", "model"):
        table.add_column(name, overflow="fold")
    for each in items:
        usage = each["usage"]
        tokens = int(usage.get("prompt_tokens") or 0) + int(usage.get("completion_tokens") or 0)
        score = "–" if each.get("score") is None else str(each["score"])
        figures = (str(each["number"]), score, f"{tokens:,}", words.money(*Cost.of(usage)))
        state = Text(str(each["status"]), style=words.colour(str(each["status"])))
        verdict = ", ".join(str(each[name]) for name in ("decision", "source") if each.get(name))
        table.add_row(*figures, words.of_ms(each.get("duration_ms")), state, verdict, str(each.get("model") or ""))
    return table


def _told(attempt: Attempt) -> Iterator[Text]:
    """What it was told beyond its node, what went wrong, and what was said of it."""
    guidance = attempt.get("guidance") or {}
    told = [("critique", guidance.get("critique")), ("instructions", guidance.get("instructions"))]
    lines = [*told, ("error", attempt.get("error")), ("verdict", _said(attempt))]
    for name, said in lines:
        if said:
            yield Text.assemble(
                (f"{attempt['number']}. {name}: ", "bright_black"), words.one_line(words.person(said), 400)
            )


def _said(attempt: Attempt) -> str:
    return verdict_words(attempt) if attempt.get("comment") else ""


def diff(unified: str) -> Text:
    text = Text()
    for line in unified.splitlines():
        text.append(f"{line}\n", style=STYLE.get(line[:1], ""))
    text.rstrip()
    return text
