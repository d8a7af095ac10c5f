"""Lists as tables: runs, streams and consumers of the bus, dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from fluidcrew.progress import moment
from fluidcrew.render import words


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name in right, overflow="ellipsis")
    return table


def runs_table(runs: Iterable[Mapping[str, Any]], now: datetime | None = None) -> Table:
    table = _table("run", "title", "status", "started", "took", right=("took",))
    for run in runs:
        started, ended = moment(run.get("started_at")), moment(run.get("ended_at"))
        took = ((ended or now or datetime.now(UTC)) - started).total_seconds() if started else None
        table.add_row(
            Text(words.short_id(run["id"]), style="bright_black"),
            Text(words.one_line(str(run["title"]), 70)),
            _status(run),
            words.day_and_clock(started),
            words.duration(took),
        )
    return table


def _status(run: Mapping[str, Any]) -> Text:
    status = str(run["status"])
    text = Text(status, style=words.colour(status))
    return text.append("  needs attention", style="bold yellow") if run.get("needs_attention") else text


def streams_table(streams: Iterable[tuple[Any, datetime | None]], now: datetime | None = None) -> Table:
    """Of nats-py's StreamInfo, each with the time of its oldest message."""
    table = _table(
        "stream", "messages", "size", "limit", "sequences", "oldest", right=("messages", "size", "limit", "oldest")
    )
    for info, oldest in streams:
        state = info.state
        span = f"{state.first_seq:,}-{state.last_seq:,}" if state.messages else f"next is {state.last_seq + 1:,}"
        limit = words.size(info.config.max_bytes) if (info.config.max_bytes or 0) > 0 else "none"
        age = words.duration(((now or datetime.now(UTC)) - utc(oldest)).total_seconds()) if oldest else ""
        table.add_row(info.config.name, f"{state.messages:,}", words.size(state.bytes), limit, span, age)
    return table


def utc(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def consumers_table(consumers: Iterable[Any]) -> Table:
    """Of nats-py's ConsumerInfo. Lag is what was not delivered yet, pending what was and waits for its ack."""
    table = _table(
        "consumer",
        "stream",
        "lag",
        "pending",
        "redelivered",
        "waiting",
        right=("lag", "pending", "redelivered", "waiting"),
    )
    for info in consumers:
        table.add_row(
            str(info.name),
            str(info.stream_name),
            Text(f"{info.num_pending or 0:,}", style="yellow" if info.num_pending else ""),
            f"{info.num_ack_pending or 0:,}",
            Text(f"{info.num_redelivered or 0:,}", style="yellow" if info.num_redelivered else ""),
            f"{info.num_waiting or 0:,}",
        )
    return table


def dead_letters_table(letters: Iterable[tuple[str, Mapping[str, Any]]]) -> Table:
    """Pairs of owner and letter."""
    table = _table("letter", "owner", "consumer", "since", "attempts", "replayed", "reason", right=("attempts",))
    for owner, letter in letters:
        table.add_row(
            Text(str(letter["id"]), style="bright_black"),
            owner,
            str(letter["durable"]),
            words.day_and_clock(moment(letter.get("created_at"))),
            str(letter.get("attempts", "")),
            words.day_and_clock(moment(letter.get("replayed_at"))) or "no",
            Text(words.one_line(str(letter.get("reason", "")), 120), style="red"),
        )
    return table
