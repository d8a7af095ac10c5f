"""Can a model be had right now? What opens the circuit of a provider's model, who may try it meanwhile, what closes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from contracts.weather import CircuitState

LONGEST_NAMED_REST = 86_400.0  # seconds; whoever names more means "not today"
ROUGH = 0.2  # of the calls fail
ROUGH_FAILURES = 3
SHORTEST_NAMED_REST = 0.1
WORTH_TELLING = timedelta(seconds=1)  # by which another call's reset time must be later


class Rules(NamedTuple):
    """Seconds, and counts. A rest that nobody named is shortened by up to a quarter, so that fleets do not march in step."""

    window: float = 30.0  # what is counted
    most_calls: int = 20  # from so many on, `share` of them decides
    share: float = 0.5
    alone: int = 3  # failures and nothing else in the window: small installations never reach `most_calls`
    in_a_row: int = 5  # latest failures without a success between them, whatever was before
    probe: float = 10.0  # rest of a provider that is out
    first_rest: float = 1.0  # of one that says "too many" and not until when; doubles as long as it says so
    longest_rest: float = 15.0
    patience: float = 45.0  # what a probe may take before the next one is let through
    outage: float = 3600.0  # out for so long, a model is nobody's excuse for ever
    memory: float = 60.0  # closed for so long, a circuit has forgotten how long it rested


class Outcome(StrEnum):
    """What a call says about the weather."""

    ANSWERED = "answered"  # also with a refusal: somebody is there and works
    RATE_LIMITED = "rate_limited"
    BROKEN = "broken"  # 5xx, silence, no connection


#: a failed call's kind (chassis.llm.call.FailureKind) as weather; what is not here says nothing about it
OUTCOMES: Mapping[str, Outcome] = {
    "rate_limited": Outcome.RATE_LIMITED,
    "server_error": Outcome.BROKEN,
    "timeout": Outcome.BROKEN,
    "connection": Outcome.BROKEN,
    "refused": Outcome.ANSWERED,
    "unauthorized": Outcome.ANSWERED,
    "quota_exceeded": Outcome.ANSWERED,
    "filtered": Outcome.ANSWERED,
    "malformed": Outcome.ANSWERED,
}


class Seen(NamedTuple):
    """One call's outcome. `probe` is the claim under which it was made, if any."""

    outcome: Outcome
    reason: str = ""
    retry_after: float | None = None  # seconds, as the provider named them
    probe: UUID | None = None


class Tally(NamedTuple):
    """Calls that ended within the window, of all executors, since the circuit closed; `in_a_row` are the failures of the
    latest seconds in which nothing succeeded."""

    calls: int
    failures: int
    in_a_row: int = 0

    def of_others(self, own: int) -> Tally:
        """Without what one node contributed, at most: it must not find the evidence for its own excuse."""
        failures = max(0, self.failures - own)
        return Tally(max(failures, self.calls - own), failures)


class Breaker(NamedTuple):
    """The circuit of one model. `since` is when it left, or came back to, fair weather."""

    state: CircuitState
    since: datetime
    reason: str | None = None
    until: datetime | None = None  # of an open one: its rest
    rest: float = 0.0  # seconds; the latest rest that nobody named
    probe: UUID | None = None  # of a half-open one: who tries
    probe_until: datetime | None = None


class Passage(StrEnum):
    FREE = "free"
    PROBE = "probe"  # whoever gets hold of the probe
    SHUT = "shut"


def passage(breaker: Breaker | None, now: datetime) -> Passage:
    if breaker is None or breaker.state is CircuitState.CLOSED:
        return Passage.FREE
    look = looked_at_again(breaker)
    return Passage.PROBE if look is None or look <= now else Passage.SHUT


def looked_at_again(breaker: Breaker) -> datetime | None:
    """When whoever needs the model shall ask again, at the latest."""
    return breaker.probe_until if breaker.state is CircuitState.HALF_OPEN else breaker.until


def shown(breaker: Breaker, now: datetime) -> CircuitState:
    """An open circuit whose rest is over only waits for somebody who needs it."""
    rested = breaker.state is CircuitState.OPEN and passage(breaker, now) is Passage.PROBE
    return CircuitState.HALF_OPEN if rested else breaker.state


def claimed(breaker: Breaker, token: UUID, now: datetime, rules: Rules) -> Breaker:
    """With the probe given to `token`; the circuit must have let a probe pass."""
    if passage(breaker, now) is not Passage.PROBE:
        raise ValueError(f"a circuit that is {breaker.state} gives no probe away now")
    until = now + timedelta(seconds=rules.patience)
    return breaker._replace(state=CircuitState.HALF_OPEN, until=None, probe=token, probe_until=until)


def withdrawn(breaker: Breaker, token: UUID, now: datetime) -> Breaker:
    """Whoever had the probe did not get to know anything: the next one may try at once."""
    if breaker.probe != token:
        return breaker
    return breaker._replace(state=CircuitState.OPEN, until=now, probe=None, probe_until=None)


def observed(breaker: Breaker, seen: Seen, tally: Tally, now: datetime, jitter: float, rules: Rules) -> Breaker:
    """The circuit after a call has ended. `tally` counts that call in; `jitter` is in [0, 1)."""
    if breaker.state is CircuitState.HALF_OPEN and seen.probe == breaker.probe:
        return _probed(breaker, seen, now, jitter, rules)
    if breaker.state is CircuitState.CLOSED:
        opens = seen.outcome is Outcome.RATE_LIMITED or (seen.outcome is Outcome.BROKEN and is_storm(tally, rules))
        return _opened(breaker, seen, tally, now, jitter, rules) if opens else breaker
    if breaker.state is CircuitState.OPEN and seen.outcome is Outcome.RATE_LIMITED:
        return _prolonged(breaker, seen, now)
    return breaker  # begun before it opened: it knows nothing new


def is_storm(tally: Tally, rules: Rules) -> bool:
    if tally.in_a_row >= rules.in_a_row or rules.alone <= tally.failures == tally.calls:
        return True
    return tally.calls >= rules.most_calls and tally.failures >= rules.share * tally.calls


def works_for_others(tally: Tally, own: int) -> bool:
    """Who fails all the time then has a trouble of its own. `own` failures are the node's that asks."""
    others = tally.of_others(own)
    return others.calls > 0 and others.failures < ROUGH * others.calls


def is_lasting(breaker: Breaker, seen: Seen, now: datetime, rules: Rules) -> bool:
    """Nobody says when the model is back, and it has been out for longer than anybody waits. Who is alone before it cannot
    be told from who breaks it."""
    return seen.retry_after is None and now - breaker.since >= timedelta(seconds=rules.outage)


def is_rough(tally: Tally, own: int) -> bool:
    """The circuit is closed, but others fail too: no failure is anybody's own."""
    others = tally.of_others(own)
    return others.failures >= ROUGH_FAILURES and others.failures >= ROUGH * others.calls


def _probed(breaker: Breaker, seen: Seen, now: datetime, jitter: float, rules: Rules) -> Breaker:
    if seen.outcome is Outcome.ANSWERED:
        return Breaker(CircuitState.CLOSED, since=now, rest=breaker.rest)
    return _opened(breaker, seen, None, now, jitter, rules)


def _opened(breaker: Breaker, seen: Seen, tally: Tally | None, now: datetime, jitter: float, rules: Rules) -> Breaker:
    fair = breaker.state is CircuitState.CLOSED
    rest, pause = breaker.rest, named(seen.retry_after)
    if pause is None and seen.outcome is Outcome.RATE_LIMITED:
        forgotten = not rest or (fair and now - breaker.since > timedelta(seconds=rules.memory))
        rest = rules.first_rest if forgotten else min(2 * rest, rules.longest_rest)
        pause = _shortened(rest, jitter)
    elif pause is None:
        pause = _shortened(rules.probe, jitter)
    return Breaker(
        CircuitState.OPEN,
        since=now if fair else breaker.since,
        reason=_why(seen, tally, rules),
        until=now + timedelta(seconds=pause),
        rest=rest,
    )


def _prolonged(breaker: Breaker, seen: Seen, now: datetime) -> Breaker:
    """Another call that was under way was told a later time."""
    pause = named(seen.retry_after)
    until = now + timedelta(seconds=pause or 0)
    if breaker.until is None or until <= breaker.until + WORTH_TELLING:
        return breaker
    return breaker._replace(until=until, reason=seen.reason)


def _why(seen: Seen, tally: Tally | None, rules: Rules) -> str:
    if tally is None or seen.outcome is Outcome.RATE_LIMITED:
        return seen.reason
    return f"{tally.failures} of {tally.calls} calls failed within {rules.window:g} s; the last: {seen.reason}"


def _shortened(rest: float, jitter: float) -> float:
    return rest * (0.75 + 0.25 * jitter)


def named(retry_after: float | None) -> float | None:
    """A provider's own word about its rest, if it makes sense."""
    if retry_after is None or not math.isfinite(retry_after) or retry_after <= 0:
        return None
    return min(max(retry_after, SHORTEST_NAMED_REST), LONGEST_NAMED_REST)
