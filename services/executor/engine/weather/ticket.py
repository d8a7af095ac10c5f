"""What a node got to run with: which model instead of which, and whether its call is the probe of a circuit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from chassis.context import Context
from chassis.llm.call import ModelChoice


class Verdict(NamedTuple):
    """What a failed call means for its node. `wait`: seconds before it may be repeated."""

    weather: bool = False  # not the node's fault: the model is not to be had
    excuse_ends: bool = False  # is an excuse so often, and no oftener
    wait: float | None = None


NO_VERDICT = Verdict()
NOBODY = Context()


@dataclass(slots=True)
class Ticket:
    """Of one attempt. `requested` is the model that its node asks for; `company` and `context` tell whose call it is."""

    choice: ModelChoice
    requested: ModelChoice
    probe: UUID | None = None
    company: str = ""
    context: Context = NOBODY
    earlier: int = 0  # failures of the node before this attempt
    asked: bool = False  # a call was made already
    verdict: Verdict = NO_VERDICT
