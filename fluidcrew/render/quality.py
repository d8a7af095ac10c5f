"""Quality over time and feedback policies, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from fluidcrew.progress import moment
from fluidcrew.render import words

LEFT_OPEN = "–"  # to the next wider scope
UNKNOWN = "–"  # there were no first attempts


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold", no_wrap=number > 0)
    return table


def quality_table(found: Mapping[str, Any]) -> Table:
    table = _table(str(found["by"]), "from", "reviews", "score", "accepted first time", "critical", "by people")
    for row in found["items"]:
        at = moment(row.get("bucket"))
        score, first = float(row["average_score"]), row["accepted_first_time"]
        table.add_row(
            words.one_line(str(row["name"] or "none"), 60),
            f"{at:%Y-%m-%d}" if at else "",
            f"{row['reviews']:,}",
            f"{score:.1f}",
            UNKNOWN if first is None else f"{100 * float(first):.0f} %",
            Text(f"{row['critical']:,}", style="red" if row["critical"] else ""),
            f"{row['human_reviews']:,}",
        )
    return table


def policies_table(policies: Iterable[Mapping[str, Any]]) -> Table:
    table = _table("policy", "critical below", "revisions by itself", "set by")
    for policy in policies:
        by = words.one_line(words.person(policy["set_by"]), 60) if policy.get("set_by") else ""
        table.add_row(_name(policy), *_says(policy), by)
    return table


def policy_line(policy: Mapping[str, Any]) -> Text:
    line = Text.assemble((_name(policy), "bold"), f": {policy_words(policy)}")
    return line.append(" (– is left to the next wider scope)") if LEFT_OPEN in _says(policy) else line


def policy_words(policy: Mapping[str, Any]) -> str:
    """Of a policy, or of the fact that it was changed."""
    threshold, revisions = _says(policy)
    return "removed" if policy.get("removed") else f"critical below {threshold}, {revisions} revisions by itself"


def _name(policy: Mapping[str, Any]) -> str:
    return f"{policy['scope']} {words.one_line(str(policy['scope_id']), 60)}"


def _says(policy: Mapping[str, Any]) -> tuple[str, str]:
    threshold, revisions = policy.get("critical_threshold"), policy.get("auto_revise")
    return (LEFT_OPEN if threshold is None else str(threshold)), (LEFT_OPEN if revisions is None else str(revisions))
