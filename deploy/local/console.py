"""What `up` prints: every line behind its source, or one JSON object per line for machines."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from chassis.printable import json_text, printable
from deploy.local.services import Log

COLOURS = (36, 35, 33, 32, 34, 96)
WIDTH = 10
#: a request that was answered well: the service's own log has it, here it would bury what runs do
ANSWERED = "http.answered"
INFO = re.compile(r'\[info|"level": "info"')
WELL = re.compile(r'\bstatus("?: |=)[123]\d\d\b')


def console_log(stream: TextIO | None = None, *, as_json: bool = False) -> Log:
    """A reader that has gone away silences it, nothing more."""
    stream, silent = stream or sys.stdout, False
    written = json_line if as_json else _labelled(coloured=stream.isatty() and "NO_COLOR" not in os.environ)

    def log(source: str, line: str) -> None:
        nonlocal silent
        if silent or is_routine(line):
            return
        try:
            print(written(source, line), file=stream, flush=True)
        except (OSError, ValueError):
            silent = True

    return log


def is_routine(line: str) -> bool:
    return ANSWERED in line and INFO.search(line) is not None and WELL.search(line) is not None


def _labelled(*, coloured: bool) -> Callable[[str, str], str]:
    colours: dict[str, int] = {}

    def label(source: str, line: str) -> str:
        line = printable(line)
        if not coloured:
            return f"{source:<{WIDTH}} │ {line}"
        number = colours.setdefault(source.split(".", maxsplit=1)[0], COLOURS[len(colours) % len(COLOURS)])
        return f"\x1b[{number}m{source:<{WIDTH}} │\x1b[0m {line}"

    return label


def json_line(source: str, line: str) -> str:
    """What is an object already keeps its fields; `source` tells one process of a service from another."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        found = {"timestamp": datetime.now(UTC).isoformat(), "level": "info", "event": line}
    return json_text({"source": source} | found)
