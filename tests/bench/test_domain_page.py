"""What the page says about figures that were reached, missed or never taken."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from bench import page
from bench.__main__ import options
from bench.comparison import Found
from bench.contestant import Full
from bench.rounds import QUICK, Samples, ratio
from bench.verdicts import TARGETS, Verdict, table


def samples(*rates: float) -> Samples:
    full = [Full(runs=100, seconds=1000 / rate, cpu=0.1) for rate in rates]
    return Samples(idle=[0.004, 0.006, 0.1], full=full, chain=[0.001, 0.002, 0.003])


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_target_is_an_aim_that_is_harder_than_its_floor(target) -> None:
    worse = target.floor * (1.1 if target.most else 0.9)
    assert target.verdict(target.aim) is Verdict.AIM
    assert target.verdict(target.floor) is Verdict.FLOOR
    assert target.verdict(worse) is Verdict.MISSED
    assert target.verdict(None) is Verdict.UNKNOWN


def test_the_table_names_every_target_even_those_nobody_measured() -> None:
    rows = table({"cpu": 119.6, "celery": 9.99}).splitlines()[2:]
    assert len(rows) == len(TARGETS)
    assert "| CPU per node: executors + Postgres + NATS | ≤ 120 µs | ≤ 250 µs | 120 µs | aim reached |" in rows
    assert sum("not measured" in row for row in rows) == len(TARGETS) - 2


def test_a_ratio_is_taken_within_rounds_so_that_a_noisy_round_harms_both() -> None:
    assert ratio(samples(1000, 100, 1000), samples(100, 10, 100)) == pytest.approx(10)


def test_a_ratio_needs_only_the_rounds_that_both_finished() -> None:
    assert ratio(samples(1000, 500), samples(100)) == pytest.approx(10)


def test_figures_are_medians_and_cpu_is_counted_over_all_rounds() -> None:
    found = samples(1000, 3000, 2000)
    assert found.rate == pytest.approx(2000)
    assert found.cpu == pytest.approx(100)
    assert found.idle_p50 == 0.006
    assert found.step == 0.002


def test_the_page_says_who_was_left_out_and_who_failed() -> None:
    broken = Samples(failure="no answer within 180 s")
    found = Found(
        QUICK,
        at_once={"Fluidcrew": samples(2000), "DBOS": broken},
        waiting={"Fluidcrew": samples(1000)},
        left_out=["celery: there is no redis-server here"],
    )
    text = page.against_peers(found)
    assert "| Fluidcrew | 2,000 [2,000–2,000] | 100 µs | 6.0 ms | 2.00 ms |" in text
    assert "| DBOS |" not in text
    assert "DBOS failed: no answer within 180 s" in text
    assert "Left out: celery: there is no redis-server here" in text


def test_peers_are_chosen_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert options(["--peers", "dbos,celery"]).peers == ("dbos", "celery")
    assert options(["--peers", "none"]).peers == ()
    with pytest.raises(SystemExit):
        options(["--peers", "airflow"])
    assert "no peer is called 'airflow'; there are celery, dbos, langgraph, or none" in capsys.readouterr().err


def test_everything_is_measured_unless_something_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVAL_DATA", "collections")
    asked = options([])
    assert asked == argparse.Namespace(
        quick=False,
        only=None,
        peers=("celery", "dbos", "langgraph"),
        data=Path("collections"),
        skip_demo=False,
        print_only=False,
    )
