"""One line for a fact: when, in which company, what happened to what, and the few words worth reading of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.text import Text

from fluidcrew.progress import BY_ORDER, Cost, Happened, moment, money
from fluidcrew.render import words
from fluidcrew.render.quality import policy_words
from fluidcrew.render.verdicts import judged

FACT_WIDTH = 18
SAY_WHO = ("action", "fields", "reasons")  # with any of these it is said there by whom
LISTS = ("reasons", "errors", "waiting", "warnings", "failed_criteria")
VERB_COLOUR = {
    "completed": "green",
    "ready": "green",
    "validated": "green",
    "started": "cyan",
    "resumed": "cyan",
    "failed": "red",
    "rejected": "red",
    "retried": "yellow",
    "opened": "yellow",
    "exhausted": "red",
    "closed": "green",
    "paused": "yellow",
    "control_asked": "magenta",
    "control_lapsed": "yellow",
    "order_dropped": "red",
    "overridden": "magenta",
    "reopened": "cyan",
    "removed": "yellow",
    "pinned": "green",
    "shared": "magenta",
    "released": "cyan",
    "reviewing": "magenta",
    "critical": "red",
    "given": "magenta",
    "review_overdue": "yellow",
    "verdict_lapsed": "yellow",
    "rerun_asked": "magenta",
    "reused": "green",
    "requeued": "yellow",
    "interrupted": "yellow",
    "parked": "yellow",
    "repaired": "yellow",
    "stalled": "red",
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
    if name := str(told.get("key") or told.get("name") or told.get("title") or told.get("provider") or _scope(told)):
        line.append(f" {words.one_line(name, 60)}", style="bold")
    if rest := details(told, at):
        line.append(f"  {rest}")
    return line


def happened_line(happened: Happened, title: str = "") -> Text:
    """An event of the API, for those who watch one run. `title` is its node's, which few facts carry."""
    entity, _, verb = happened.level.lower().partition("_")
    told = {"title": title, **happened.told} if title else happened.told
    return fact_line(happened.at, "", entity, verb, "", told)


def details(told: Mapping[str, Any], at: datetime | None = None) -> str:
    """What a reader wants to know beside the name; every part is left out when the fact does not say it."""
    parts = [words.one_line(str(told["title"]), 60)] if told.get("key") and told.get("title") else []
    parts += [str(told["role"])] if told.get("role") else []
    parts += [_order(told)] if told.get("action") else []
    parts += _changed(told)
    parts += [_by(told).strip()] if told.get("by") and not any(told.get(name) for name in SAY_WHO) else []
    parts += _left(told)
    parts += [policy_words(told)] if "auto_revise" in told else []
    parts += [_model(told)] if told.get("provider") and told.get("model") else []
    parts += [f"attempt {told['attempt']}"] if _number(told, "attempt") > ("due_at" not in told) else []
    parts += [f"v{told['version']}"] if "version" in told and "effect" not in told else []
    parts += judged(told)
    parts += _delivered(told)
    parts += [words.count(_number(told, "nodes"), "node")] if "nodes" in told else []
    parts += [words.count(_number(told, "nodes_completed"), "node")] if "nodes_completed" in told else []
    parts += [words.of_ms(told["duration_ms"])] if told.get("duration_ms") is not None else []
    parts += _spent(told)
    parts += [
        words.one_line(str(told[name]), 200) for name in ("reason", "error", "repair", "detail") if told.get(name)
    ]
    parts += [
        words.one_line(", ".join(_reason(each, told) for each in told[name]), 200) for name in LISTS if told.get(name)
    ]
    parts += [f"until {words.clock(until)}"] if (until := moment(told.get("until"))) else []
    parts += [_next_try(moment(told["due_at"]), at)] if "due_at" in told else []
    return " · ".join(parts)


def _reason(name: object, told: Mapping[str, Any]) -> str:
    return (_by(told).strip() or "by order") if name == BY_ORDER else str(name)


def _order(told: Mapping[str, Any]) -> str:
    cut_off = " and cut off what runs" if told.get("mode") == "interrupt" else ""
    return f"{told['action']}{cut_off}{_by(told)}"


def _by(told: Mapping[str, Any]) -> str:
    return f" by {words.one_line(words.person(told['by']), 80)}" if told.get("by") else ""


def _scope(told: Mapping[str, Any]) -> str:
    return f"{told['scope']} {told['scope_id']}" if told.get("scope") else ""


def _left(told: Mapping[str, Any]) -> list[str]:
    """Of a budget: how far it is used, and what did not fit."""
    if "limit_usd" not in told:
        return []
    limit, spent, reserved = (words.money(money(told.get(f"{sum}_usd"))) for sum in ("limit", "spent", "reserved"))
    parts = [f"limit {limit}", f"{spent} spent", f"{reserved} reserved"]
    if "need_usd" in told:
        need = told["need_usd"]
        parts.append(f"a call to {told['model']} may cost {words.money(money(need)) if need else 'who knows what'}")
    return parts


def _delivered(told: Mapping[str, Any]) -> list[str]:
    """Of an artifact what it is, of a preview where it is."""
    parts = [str(told["artifact_kind"])] if told.get("artifact_kind") else []
    parts += [words.count(_number(told, "files"), "file")] if "files" in told else []
    parts += [words.size(_number(told, "size"))] if told.get("size") is not None else []
    return parts + ([words.one_line(str(told["url"]), 300)] if told.get("url") else [])


def _changed(told: Mapping[str, Any]) -> list[str]:
    """What an override replaced, what a task now waits for, whose result was taken over."""
    parts = [f"{', '.join(map(str, told['fields']))}{_by(told)}"] if told.get("fields") else []
    if told.get("depends_on"):
        parts.append(f"{told.get('change', '')} {', '.join(map(words.short_id, told['depends_on']))}".strip())
    parts += [f"of run {words.short_id(told['from_run_id'])}"] if told.get("from_run_id") else []
    parts += [f"after run {words.short_id(told['earlier_run_id'])}"] if told.get("earlier_run_id") else []
    return parts + (["starts now"] if told.get("starting") else [])


def _model(told: Mapping[str, Any]) -> str:
    """Of a fact about a provider its name is told already."""
    return f"{told['provider']}/{told['model']}" if told.get("key") else str(told["model"])


def _next_try(due_at: datetime | None, at: datetime | None) -> str:
    """Counted from the fact: a line stays true when it is read later."""
    if due_at is None or at is None or due_at <= at:
        return "next try at once"
    wait = (due_at - at).total_seconds()
    return f"next try in {words.duration(wait)}" + (f", at {words.clock(due_at)}" if wait >= 10 else "")


def _spent(told: Mapping[str, Any]) -> list[str]:
    usage = told.get("usage")
    if isinstance(usage, Mapping):
        tokens = _number(usage, "prompt_tokens") + _number(usage, "completion_tokens")
        return [words.count(tokens, "token"), words.money(*Cost.of(usage))] if tokens else []
    if tokens := _number(told, "tokens"):
        return [words.count(tokens, "token"), words.money(*Cost.of(told))]
    return []


def _number(told: Mapping[str, Any], name: str) -> int:
    value = told.get(name)
    return int(value) if isinstance(value, int | float) else 0
