"""The console of `up`: labelled lines for people, objects for machines."""

from __future__ import annotations

import io
import json

from deploy.local.console import console_log


def told(*lines: tuple[str, str], as_json: bool) -> list[str]:
    stream = io.StringIO()
    log = console_log(stream, as_json=as_json)
    for source, line in lines:
        log(source, line)
    return stream.getvalue().splitlines()


def test_every_line_stands_behind_its_source() -> None:
    assert told(("stack", "ready"), ("executor.2", "x"), as_json=False) == ["stack      │ ready", "executor.2 │ x"]


def test_what_a_line_quotes_gives_the_terminal_no_orders() -> None:
    (line,) = told(("planner", "GET /x\x1b]52;c;c3RvbGVu\x07\x9b2J"), as_json=False)
    assert line == "planner    │ GET /x]52;c;c3RvbGVu2J"
    (record,) = told(("planner", "a\x9bb"), as_json=True)
    assert "\x9b" not in record
    assert json.loads(record)["event"] == "a\x9bb"


def test_in_json_every_line_is_one_object_whoever_wrote_it() -> None:
    lines = told(
        ("executor.2", '{"event": "node.claimed", "service": "executor"}'),
        ("stack", "ready; Ctrl-C stops everything"),
        ("planner", "Traceback (most recent call last):"),
        ("planner", "[1, 2]"),
        as_json=True,
    )
    records = [json.loads(line) for line in lines]
    assert records[0] == {"source": "executor.2", "event": "node.claimed", "service": "executor"}
    assert [record["event"] for record in records[1:]] == [
        "ready; Ctrl-C stops everything",
        "Traceback (most recent call last):",
        "[1, 2]",
    ]
    assert all(record["timestamp"] for record in records[1:])


ANSWERED = "12:00:00 [info     ] http.answered                method=POST ms=3.1 route=/tasks status="


def test_requests_that_were_answered_well_stay_in_the_service_s_own_log() -> None:
    well = {"event": "http.answered", "level": "info", "method": "POST", "status": 201}
    lines = [
        ("gateway", ANSWERED + "201"),
        ("gateway", ANSWERED + "409"),
        ("gateway", ANSWERED.replace("info ", "debug") + "200"),
    ]
    assert told(*lines, as_json=False) == [f"gateway    │ {line}" for _, line in lines[1:]]
    objects = [("gateway", json.dumps(well)), ("gateway", json.dumps(well | {"status": 404}))]
    assert [json.loads(line)["status"] for line in told(*objects, as_json=True)] == [404]
    assert told(("gateway", json.dumps(dict(reversed(well.items())))), as_json=True) == []


def test_a_reader_that_has_gone_away_silences_it() -> None:
    stream = io.StringIO()
    log = console_log(stream)
    stream.close()
    log("stack", "nobody hears this")
