"""Budgets as a table: what is left of each before what models may cost is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from rich.table import Table
from rich.text import Text

from fluidcrew.render import words

Budget = Mapping[str, Any]


def budgets_table(budgets: Iterable[Budget]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("budget", overflow="fold", ratio=1)
    for name in ("limit", "spent", "reserved", "left"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("waits", overflow="fold")
    for budget in budgets:
        who = Text.assemble((str(budget["scope"]), "bright_black"), f" {words.one_line(str(budget['scope_id']), 60)}")
        sums = [words.money(Decimal(str(budget[f"{sum}_usd"]))) for sum in ("limit", "spent", "reserved")]
        table.add_row(who, *sums, left(budget), _waits(budget))
    return table


def budget_line(budget: Budget) -> Text:
    limit, spent = (words.money(Decimal(str(budget[f"{sum}_usd"]))) for sum in ("limit", "spent"))
    name = f"{budget['scope']} {words.one_line(str(budget['scope_id']), 60)}"
    line = Text.assemble((name, "bold"), f": limit {limit}, {spent} spent, ", left(budget), " left")
    return line.append(f"; {waits}") if (waits := _waits(budget)) else line


def left(budget: Budget) -> Text:
    """What new calls may cost; nothing when a limit was lowered below what is spent."""
    limit, spent, reserved = (Decimal(str(budget[f"{sum}_usd"])) for sum in ("limit", "spent", "reserved"))
    rest = max(limit - spent - reserved, Decimal(0))
    return Text(words.money(rest), style="red" if rest == 0 else "green" if rest * 10 > limit else "yellow")


def _waits(budget: Budget) -> str:
    return f"{words.count(budget['waiting_nodes'], 'node')} waiting" if budget["waiting_nodes"] else ""
