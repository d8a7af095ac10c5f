"""The validating process as its parent sees it: a result and its declared format go in, and a judgement comes out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from chassis.confined import OverLimit, WorkerDied, ask, isolated
from services.feedback.domain.formats import Judgement, is_costly

log = structlog.get_logger(__name__)

WORKER = Path(__file__).resolve().parents[1] / "validating" / "__main__.py"
COMMAND = isolated(WORKER)
NOWHERE = Path("/")  # it writes no file
TIMEOUT = 20.0  # seconds; it ends itself before
AT_ONCE = 2  # each may take half a gigabyte
TOO_MUCH = "output_schema takes too long, or too much memory, to hold against this result; make it simpler"


class Validator:
    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)

    async def judgement(self, text: str, params: Mapping[str, Any]) -> Judgement | None:
        """None for what can be looked at in place."""
        if not is_costly(text, params):
            return None
        declared = {name: params[name] for name in ("output_format", "output_schema") if name in params}
        given = json.dumps({"text": text, "params": declared}).encode()
        try:
            async with self._places:
                return Judgement(**await ask(COMMAND, NOWHERE, TIMEOUT, given))
        except (OverLimit, WorkerDied) as why:  # memory that a library asks for in vain ends the process
            log.warning("review.format_not_checked", characters=len(given), reason=str(why))
            return Judgement(uncheckable=TOO_MUCH)
