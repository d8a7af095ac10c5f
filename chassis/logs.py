"""Logs: event-style names with fields, as coloured lines for people or JSON for machines. Secrets are masked."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

from chassis.printable import printable

#: a password ends within a thousand characters: to look for its end from every `://a:` would be quadratic
SECRET = re.compile(
    r"(?i)(api_key=|bearer\s+)[^\s&\"']+|(://[^:/@\s]+:)[^\s@]{1,1000}(?=@)|\b(?:sk-|flm_)[A-Za-z0-9_-]{8,}"
)


def _masked(text: str) -> str:
    return SECRET.sub(lambda m: f"{m[1] or m[2] or ''}***", text)


def _mask(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    return {k: _masked(v) if isinstance(v, str) else v for k, v in event.items()}


def _tame(_: Any, __: str, event: dict[str, Any]) -> dict[str, Any]:
    """For terminals. JSON escapes by itself."""
    return {k: printable(v) if isinstance(v, str) else v for k, v in event.items()}


def _on_one_line(record: logging.LogRecord) -> bool:
    """Without the traceback: asyncpg's pool prints one for every try to reach a server that is away."""
    if record.exc_info and record.exc_info[1] is not None:
        record.msg, record.exc_info = f"{record.msg}: {record.exc_info[1]!r}", None
    return True


def configure(service: str, *, format: str = "console", level: str = "INFO") -> None:
    """Set up structlog and the standard library's logging alike, once per process."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso" if format == "json" else "%H:%M:%S", utc=format == "json"),
        structlog.processors.format_exc_info,
        _mask,
        *([] if format == "json" else [_tame]),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=28)
    )
    structlog.configure(
        processors=[*shared[:2], *shared[3:], structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("nats", "faststream", "httpx", "httpcore", "botocore", "aiobotocore", "openai", "anthropic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("asyncpg.pool").addFilter(_on_one_line)
    structlog.contextvars.bind_contextvars(service=service)
