"""The validating process as its parent sees it: a result and its declared format go in, and a judgement comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from chassis.confined import Filter, OverLimit, WorkerDied
from services.feedback.domain.formats import Judgement, is_costly

log = structlog.get_logger(__name__)

WORKER = Path(__file__).resolve().parents[1] / "validating" / "__main__.py"
TOO_MUCH = "output_schema takes too long, or too much memory, to hold against this result; make it simpler"


class Validator:
    def __init__(self) -> None:
        self._apart = Filter(WORKER)

    async def judgement(self, text: str, params: Mapping[str, Any]) -> Judgement | None:
        """None for what can be looked at in place."""
        if not is_costly(text, params):
            return None
        declared = {name: params[name] for name in ("output_format", "output_schema") if name in params}
        given = json.dumps({"text": text, "params": declared}).encode()
        try:
            return Judgement(**await self._apart.ask(given))
        except (OverLimit, WorkerDied) as why:
            log.warning("review.format_not_checked", characters=len(given), reason=str(why))
            return Judgement(uncheckable=TOO_MUCH)
