"""What was asked of a run or task, when, by whom, and when it took effect: wanted and actual in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from fluidcrew.progress import moment
from fluidcrew.render import words

ASKED = {"pause": "pause requested", "cancel": "cancel requested", "run": "resume requested"}
CAME = {"pause": "paused", "cancel": "canceled", "run": "went on"}


def control_line(control: Mapping[str, Any] | None) -> Text | None:
    """`pause requested 14:03:07 by ada, 2 nodes finishing`, and later `…, paused 14:03:09`. None when nothing was asked."""
    if not control:
        return None
    wanted, finishing = str(control["wanted"]), int(control.get("finishing") or 0)
    text = Text(f"{ASKED[wanted]} {words.clock(moment(control['asked_at']))}", style="yellow")
    if control.get("asked_by"):
        text.append(f" by {words.person(control['asked_by'])}")
    if wanted == "pause" and control.get("mode") == "interrupt":
        text.append(", cutting off what runs")
    if at := moment(control.get("effective_at")):
        text.append(f", {CAME[wanted]} {words.clock(at)}", style="bold")
    elif finishing:
        text.append(f", {words.count(finishing, 'node')} finishing", style="bold")
    else:
        text.append(", not carried out yet")
    return text


def flags_line(control: Mapping[str, Any]) -> Text | None:
    """The flags of a task. None when neither is set."""
    flags = [name for name in ("pause", "cancel") if control.get(name)]
    if not flags:
        return None
    text = Text(f"flag {' and '.join(flags)} set", style="yellow")
    if at := moment(control.get("asked_at")):
        text.append(f" {words.clock(at)}")
    if control.get("asked_by"):
        text.append(f" by {words.person(control['asked_by'])}")
    return text.append(": no new run starts")
