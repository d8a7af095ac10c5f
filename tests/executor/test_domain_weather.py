"""The circuit of a model, and the retry budget: what opens, who probes, what closes; over all sequences of calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.weather import CircuitState
from services.executor.domain.retry_budget import LONGEST_WAIT, MOST, PER_SECOND, SHARE, RetryBudget, called, retried
from services.executor.domain.weather import (
    OUTCOMES,
    Breaker,
    Outcome,
    Passage,
    Rules,
    Seen,
    Tally,
    claimed,
    is_lasting,
    is_rough,
    is_storm,
    looked_at_again,
    observed,
    passage,
    shown,
    withdrawn,
    works_for_others,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RULES = Rules()
FAIR = Breaker(CircuitState.CLOSED, NOW)
TOO_MANY = Seen(Outcome.RATE_LIMITED, "too many")
BROKE = Seen(Outcome.BROKEN, "503")
ONE = Tally(1, 1)


def seconds(n: float) -> timedelta:
    return timedelta(seconds=n)


def after(breaker: Breaker, seen: Seen, tally: Tally = ONE, now: datetime = NOW, jitter: float = 1.0) -> Breaker:
    return observed(breaker, seen, tally, now, jitter, RULES)


def probed(breaker: Breaker, seen: Seen, jitter: float = 1.0) -> Breaker:
    """After its rest somebody tried."""
    assert breaker.until is not None
    token, now = uuid4(), breaker.until
    return after(claimed(breaker, token, now, RULES), seen._replace(probe=token), now=now, jitter=jitter)


# what opens it


def test_a_reset_time_that_the_provider_names_is_what_the_circuit_rests() -> None:
    opened = after(FAIR, TOO_MANY._replace(retry_after=90))
    assert (opened.state, opened.until, opened.reason) == (CircuitState.OPEN, NOW + seconds(90), "too many")


def test_without_one_the_rest_doubles_up_to_its_longest() -> None:
    opened, rests = after(FAIR, TOO_MANY), []
    for _ in range(6):
        assert opened.until is not None
        rests.append(opened.rest)
        opened = probed(opened, TOO_MANY)
    assert rests == [1, 2, 4, 8, 15, 15]


def test_a_circuit_that_has_just_closed_has_not_forgotten_its_rests() -> None:
    closed = probed(probed(after(FAIR, TOO_MANY), TOO_MANY), Seen(Outcome.ANSWERED))
    assert closed.state is CircuitState.CLOSED
    assert after(closed, TOO_MANY, now=closed.since + seconds(5)).rest == 4
    assert after(closed, TOO_MANY, now=closed.since + seconds(RULES.memory + 1)).rest == RULES.first_rest


@pytest.mark.parametrize("nonsense", [0.0, -1.0, float("nan"), float("inf")])
def test_a_senseless_reset_time_is_none(nonsense: float) -> None:
    assert after(FAIR, TOO_MANY._replace(retry_after=nonsense)).rest == RULES.first_rest


@pytest.mark.parametrize(
    ("calls", "failures", "storm"),
    [(1, 1, False), (2, 2, False), (3, 3, True), (4, 3, False), (19, 18, False), (20, 10, True), (20, 9, False)],
)
def test_a_few_failures_are_no_storm_but_half_of_many_or_three_and_nothing_else_are(
    calls: int, failures: int, storm: bool
) -> None:
    assert is_storm(Tally(calls, failures), RULES) is storm
    assert (after(FAIR, BROKE, Tally(calls, failures)).state is CircuitState.OPEN) is storm


def test_five_in_a_row_are_one_whatever_was_before() -> None:
    assert not is_storm(Tally(1000, 4, in_a_row=4), RULES)
    assert is_storm(Tally(1000, 5, in_a_row=5), RULES)


def test_a_storm_says_how_bad_it_was() -> None:
    opened = after(FAIR, BROKE, Tally(24, 13), jitter=1.0)
    assert opened.reason == "13 of 24 calls failed within 30 s; the last: 503"
    assert opened.until == NOW + seconds(RULES.probe)
    assert after(FAIR, BROKE._replace(retry_after=40), Tally(24, 13)).until == NOW + seconds(40)


def test_client_errors_are_answers() -> None:
    assert {k for k, outcome in OUTCOMES.items() if outcome is Outcome.ANSWERED} >= {"refused", "unauthorized"}
    assert "canceled" not in OUTCOMES


def test_who_fails_alone_has_a_trouble_of_its_own() -> None:
    assert works_for_others(Tally(10, 4), own=4)
    assert works_for_others(Tally(11, 5), own=4)
    assert not works_for_others(Tally(10, 6), own=4)
    assert not works_for_others(Tally(4, 4), own=4), "nobody else called: nobody knows"
    assert not works_for_others(Tally(0, 0), own=1)


def test_an_outage_that_nobody_dated_lasts_too_long_after_an_hour() -> None:
    out, broken = Breaker(CircuitState.OPEN, since=NOW, reason="503"), Seen(Outcome.BROKEN, "503")
    assert not is_lasting(out, broken, NOW + timedelta(seconds=3599), RULES)
    assert is_lasting(out, broken, NOW + timedelta(seconds=3600), RULES)
    assert is_lasting(out, Seen(Outcome.RATE_LIMITED, "429"), NOW + timedelta(seconds=3600), RULES)
    tomorrow = Seen(Outcome.RATE_LIMITED, "429", retry_after=80_000.0)
    assert not is_lasting(out, tomorrow, NOW + timedelta(seconds=7200), RULES), "it says when it is back"


def test_who_fails_among_others_that_fail_is_not_to_blame_though_the_circuit_is_closed() -> None:
    assert is_rough(Tally(10, 4), own=1)
    assert not is_rough(Tally(10, 4), own=2), "two failures of somebody else are no weather"
    assert not is_rough(Tally(17, 4), own=1)
    assert not is_rough(Tally(4, 4), own=4)


# who tries, and what closes it


def test_one_at_a_time_tries_and_the_next_one_when_its_time_is_over() -> None:
    opened = after(FAIR, TOO_MANY)
    assert opened.until is not None
    assert passage(opened, opened.until - seconds(0.001)) is Passage.SHUT
    trying = claimed(opened, uuid4(), opened.until, RULES)
    with pytest.raises(ValueError, match="half_open"):
        claimed(trying, uuid4(), opened.until, RULES)
    assert looked_at_again(trying) == opened.until + seconds(RULES.patience)
    assert passage(trying, opened.until + seconds(RULES.patience)) is Passage.PROBE


def test_what_others_see_meanwhile_decides_nothing() -> None:
    opened = after(FAIR, TOO_MANY)
    assert opened.until is not None
    trying = claimed(opened, uuid4(), opened.until, RULES)
    for seen in (Seen(Outcome.ANSWERED), TOO_MANY, BROKE, Seen(Outcome.ANSWERED, probe=uuid4())):
        assert after(trying, seen) == trying
    assert after(opened, Seen(Outcome.ANSWERED)) == opened
    assert after(opened, TOO_MANY) == opened


def test_a_later_reset_time_prolongs_the_rest_and_an_earlier_one_does_not_shorten_it() -> None:
    opened = after(FAIR, TOO_MANY._replace(retry_after=10))
    assert after(opened, TOO_MANY._replace(retry_after=60)).until == NOW + seconds(60)
    assert after(opened, TOO_MANY._replace(retry_after=5)) == opened
    assert after(opened, TOO_MANY._replace(retry_after=10.4)) == opened


def test_a_probe_that_found_out_nothing_makes_room_for_the_next() -> None:
    opened = after(FAIR, TOO_MANY)
    assert opened.until is not None
    token = uuid4()
    trying = claimed(opened, token, opened.until, RULES)
    assert withdrawn(trying, uuid4(), NOW) == trying
    again = withdrawn(trying, token, opened.until)
    assert passage(again, opened.until) is Passage.PROBE


def test_bad_weather_lasts_since_it_began() -> None:
    opened = probed(after(FAIR, TOO_MANY), TOO_MANY)
    assert opened.since == NOW
    closed = probed(opened, Seen(Outcome.ANSWERED))
    assert opened.until is not None
    assert closed == Breaker(CircuitState.CLOSED, opened.until, rest=2.0)


def test_an_open_circuit_whose_rest_is_over_is_shown_as_waiting_for_somebody_to_try() -> None:
    opened = after(FAIR, TOO_MANY)
    assert opened.until is not None
    assert shown(opened, NOW) is CircuitState.OPEN
    assert shown(opened, opened.until) is CircuitState.HALF_OPEN


class Weather(RuleBasedStateMachine):
    """Any calls at any time, probes that end, expire or are withdrawn, by executors that know each other's claims."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.breaker, self.failed = NOW, FAIR, False
        self.token: UUID | None = None

    @rule(step=st.floats(0, 100))
    def time_passes(self, step: float) -> None:
        self.now += seconds(step)

    @rule(
        outcome=st.sampled_from(Outcome),
        named=st.none() | st.floats(allow_nan=True),
        failures=st.integers(0, 30),
        others=st.integers(0, 30),
        as_probe=st.booleans(),
        jitter=st.floats(0, 0.999),
    )
    def a_call_ends(
        self, outcome: Outcome, named: float | None, failures: int, others: int, as_probe: bool, jitter: float
    ) -> None:
        before, seen = self.breaker, Seen(outcome, "why", named, self.token if as_probe else None)
        self.breaker = observed(before, seen, Tally(failures + others + 1, failures), self.now, jitter, RULES)
        if self.breaker.state is CircuitState.OPEN and before.state is not CircuitState.OPEN:
            assert outcome is not Outcome.ANSWERED
            assert self.breaker.until is not None
            assert self.breaker.until > self.now
        if self.breaker.state is CircuitState.CLOSED and before.state is not CircuitState.CLOSED:
            assert outcome is Outcome.ANSWERED
            assert before.state is CircuitState.HALF_OPEN
            assert seen.probe == before.probe
        if self.breaker.state is before.state is CircuitState.OPEN:
            assert self.breaker.until is not None
            assert before.until is not None
            assert self.breaker.until >= before.until

    @precondition(lambda self: passage(self.breaker, self.now) is Passage.PROBE)
    @rule()
    def somebody_tries(self) -> None:
        self.token = uuid4()
        self.breaker = claimed(self.breaker, self.token, self.now, RULES)
        assert passage(self.breaker, self.now) is Passage.SHUT

    @precondition(lambda self: self.token is not None)
    @rule()
    def a_probe_is_given_up(self) -> None:
        assert self.token is not None
        self.breaker = withdrawn(self.breaker, self.token, self.now)

    @invariant()
    def it_is_sound(self) -> None:
        state, breaker = self.breaker.state, self.breaker
        assert (breaker.until is not None) == (state is CircuitState.OPEN)
        assert (breaker.probe is not None) == (state is CircuitState.HALF_OPEN) == (breaker.probe_until is not None)
        assert (breaker.reason is not None) == (state is not CircuitState.CLOSED)
        assert breaker.rest <= RULES.longest_rest

    @invariant()
    def it_is_never_shut_for_ever(self) -> None:
        look = looked_at_again(self.breaker)
        assert self.breaker.state is CircuitState.CLOSED or look is not None
        assert look is None or passage(self.breaker, look) is not Passage.SHUT


TestWeather = Weather.TestCase
TestWeather.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


# repeating


def test_a_small_installation_may_repeat_a_few_calls_at_once() -> None:
    budget, waits = RetryBudget(), []
    for _ in range(int(MOST) + 2):
        budget, wait = retried(budget, 0.0)
        waits.append(wait)
    assert waits[: int(MOST)] == [0] * int(MOST)
    assert waits[int(MOST) :] == [1 / PER_SECOND, 2 / PER_SECOND]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=300))
def test_repeating_stays_within_a_tenth_of_the_calls_and_what_time_earns(events: list[tuple[bool, float]]) -> None:
    budget, now, calls, begun = RetryBudget(), 0.0, 0, []
    for is_retry, step in events:
        now += step
        if is_retry:
            budget, wait = retried(budget, now)
            assert 0 <= wait <= LONGEST_WAIT
            begun.append(now + wait)
        else:
            budget, calls = called(budget), calls + 1
    in_time = sum(1 for at in begun if at <= now)
    assert in_time <= MOST + SHARE * calls + PER_SECOND * now + 1
