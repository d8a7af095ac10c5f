"""Which models a node may use: the one it asks for, then those that may stand in for it."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from chassis.llm.call import ModelChoice, ModelFailure
from chassis.llm.models import Models
from contracts.plan import ModelRef
from services.executor.engine.weather.store import Waits

log = structlog.get_logger(__name__)

Route = tuple[ModelChoice, ...]


class Routes:
    """`fallbacks` are the server's own, for nodes that name none."""

    def __init__(self, models: Models, fallbacks: Sequence[ModelRef]) -> None:
        self._models = models
        self._ready = {p.name for p in models.describe().providers if p.configured}
        self._fallbacks = [ModelChoice(ref.provider, ref.model) for ref in fallbacks]
        self._skipped: set[ModelChoice] = set()

    def of(self, waits: Waits) -> Route:
        """Nothing when the node asks for what does not exist: its attempt says so."""
        try:
            primary = self._models.choose(waits.backend, waits.model)
        except ModelFailure:
            return ()
        named = waits.fallbacks
        wanted = self._fallbacks if named is None else [ModelChoice(f["provider"], f["model"]) for f in named]
        usable = (choice for choice in wanted if self._is_ready(choice))
        return tuple(dict.fromkeys((primary, *usable)))

    def _is_ready(self, choice: ModelChoice) -> bool:
        if choice.provider in self._ready:
            return True
        if choice not in self._skipped:
            self._skipped.add(choice)
            log.warning("fallback.skipped", model=str(choice), reason=f"{choice.provider} is not configured here")
        return False
