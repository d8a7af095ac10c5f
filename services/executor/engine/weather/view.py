"""What this process knows of the weather: every circuit, and how carefully calls begin again after a rest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

from prometheus_client import Gauge

from chassis.llm.call import ModelChoice
from contracts.weather import CircuitState
from services.executor.domain.weather import Breaker, Passage, passage

STATE = Gauge(
    "executor_circuit_state", "Circuit of a provider's model: 0 closed, 1 half open, 2 open", ["provider", "model"]
)
LEVELS = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}

FIRST_AFTER_REST = 2  # calls at once of this process when a circuit has closed; each success lets one more through
CAREFUL_SECONDS = 30.0  # at most


class View:
    """`calm`: every model may be called at will. `on_change` is called when a circuit has changed."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self.breakers: dict[ModelChoice, Breaker] = {}
        self.calm = True
        self.changes = 0
        self.on_change: Callable[[], None] = lambda: None
        self._ramps: dict[ModelChoice, tuple[int, float]] = {}  # calls at once, and since when (monotonic)
        self._under_way: Counter[ModelChoice] = Counter()  # calls of tickets

    def is_shut(self, choice: ModelChoice) -> bool:
        return passage(self.breakers.get(choice), datetime.now(UTC)) is not Passage.FREE

    def room(self, choice: ModelChoice) -> int:
        """How many more calls may begin now; after a rest they are let through little by little."""
        if choice not in self._ramps:
            return self._slots
        return self._ramps[choice][0] - self._under_way[choice]

    def began(self, choice: ModelChoice) -> None:
        self._under_way[choice] += 1

    def ended(self, choice: ModelChoice) -> None:
        self._under_way[choice] -= 1

    def succeeded(self, choice: ModelChoice) -> None:
        if (ramp := self._ramps.get(choice)) is not None:
            self._ramps[choice] = (ramp[0] + 1, ramp[1])
            self.look_up()

    def note(self, choice: ModelChoice, breaker: Breaker) -> bool:
        """Whether that is news."""
        before = self.breakers.get(choice)
        if before == breaker:
            return False
        self.breakers[choice] = breaker
        self.changes += 1
        STATE.labels(choice.provider, choice.model).set(LEVELS[breaker.state])
        if breaker.state is not CircuitState.CLOSED:
            self._ramps.pop(choice, None)
        elif before is not None and before.state is not CircuitState.CLOSED:
            self._ramps[choice] = (FIRST_AFTER_REST, time.monotonic())
        self.look_up()
        self.on_change()
        return True

    def look_up(self) -> None:
        for choice, (size, since) in list(self._ramps.items()):
            if size >= self._slots or time.monotonic() - since > CAREFUL_SECONDS:
                del self._ramps[choice]
        self.calm = not self._ramps and all(b.state is CircuitState.CLOSED for b in self.breakers.values())
