"""Which models can be had right now, as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from fluidcrew.progress import moment
from fluidcrew.render import words

COLOUR = {"closed": "green", "open": "red", "half_open": "yellow"}
#: a circuit that is closed lets calls through: the words of electricians puzzle everybody else
STATE = {"closed": "ok", "open": "not to be had", "half_open": "being tried"}
Provider = Mapping[str, Any]


def providers_table(providers: Iterable[Provider]) -> Table:
    """Calls and failures are those of the last 30 seconds."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name in ("provider", "model", "state", "calls"):
        table.add_column(name, overflow="fold")
    table.add_column("why", ratio=1, overflow="fold")
    for provider in providers:
        for row in _rows(provider):
            table.add_row(*row)
    return table


def _rows(provider: Provider) -> Iterator[tuple[Text | str, ...]]:
    name = Text(str(provider["name"]), style="bold")
    if provider.get("default"):
        name.append(" *", style="cyan")
    if not provider["circuits"]:
        state = "not used yet" if provider["configured"] else "not configured"
        models = words.one_line(", ".join(provider["models"]), 30)
        yield name, models, Text(state, style="bright_black"), "", str(provider.get("note") or "")
    for number, circuit in enumerate(provider["circuits"]):
        yield (name if number == 0 else "", *_circuit(circuit))


def _circuit(circuit: Mapping[str, Any]) -> tuple[Text | str, ...]:
    state = str(circuit["state"])
    failed = f", {circuit['failures']:,} failed" if circuit["failures"] else ""
    return (
        str(circuit["model"]),
        Text(STATE.get(state, state), style=COLOUR.get(state, "default")),
        f"{circuit['calls']:,}{failed}",
        _why(circuit),
    )


def _why(circuit: Mapping[str, Any]) -> str:
    parts = [words.one_line(str(circuit["reason"]), 120)] if circuit.get("reason") else []
    parts += [f"until {words.clock(at)}"] if (at := moment(circuit.get("until"))) else []
    parts += [f"{words.count(circuit['parked_nodes'], 'node')} parked"] if circuit["parked_nodes"] else []
    return ", ".join(parts)
