"""One line for a fact: when, in which company, what happened to what, and the few words worth reading of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.text import Text

from fluidcrew.progress import money
from fluidcrew.render import words

FACT_WIDTH = 18
VERB_COLOUR = {
    "completed": "green",
    "ready": "green",
    "validated": "green",
    "started": "cyan",
    "resumed": "cyan",
    "failed": "red",
    "rejected": "red",
    "retried": "yellow",
    "paused": "yellow",
    "canceled": "yellow",
    "skipped": "bright_black",
    "queued": "bright_black",
}


def fact_line(at: datetime | None, company: str, entity: str, verb: str, story: str, told: Mapping[str, Any]) -> Text:
    line = Text(words.clock(at), style="bright_black")
    if company:
        line.append(f" {company}", style="bright_black")
    line.append(f" {f'{entity}.{verb}':<{FACT_WIDTH}}", style=VERB_COLOUR.get(verb, "default"))
    if story:
        line.append(f" {words.short_id(story)}", style="bright_black")
    if name := str(told.get("key") or told.get("title") or ""):
        line.append(f" {words.one_line(name, 60)}", style="bold")
    if rest := details(told):
        line.append(f"  {rest}")
    return line


def details(told: Mapping[str, Any]) -> str:
    """What a reader wants to know beside the name; every part is left out when the fact does not say it."""
    parts = [words.one_line(str(told["title"]), 60)] if told.get("key") and told.get("title") else []
    parts += [str(told["role"])] if told.get("role") else []
    parts += [f"attempt {told['attempt']}"] if _number(told, "attempt") > 1 else []
    parts += [f"v{told['version']}"] if "version" in told else []
    parts += [words.count(_number(told, "nodes"), "node")] if "nodes" in told else []
    parts += [words.count(_number(told, "nodes_completed"), "node")] if "nodes_completed" in told else []
    parts += [words.of_ms(told["duration_ms"])] if told.get("duration_ms") is not None else []
    parts += _spent(told)
    parts += [words.one_line(str(told[name]), 200) for name in ("reason", "error") if told.get(name)]
    parts += [words.one_line(", ".join(map(str, told[name])), 200) for name in ("reasons", "errors") if told.get(name)]
    return " · ".join(parts)


def _spent(told: Mapping[str, Any]) -> list[str]:
    usage = told.get("usage")
    if isinstance(usage, Mapping):
        tokens = _number(usage, "prompt_tokens") + _number(usage, "completion_tokens")
        return [words.count(tokens, "token"), words.money(money(usage.get("cost_usd")))] if tokens else []
    if tokens := _number(told, "tokens"):
        return [words.count(tokens, "token"), words.money(money(told.get("cost_usd")))]
    return []


def _number(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    return int(value) if isinstance(value, int | float) else 0
