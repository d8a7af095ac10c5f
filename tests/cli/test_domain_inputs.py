"""What people type and write into files, and what becomes of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.planner import LaunchTask
from fluidcrew.app import halt_of
from fluidcrew.commands.stack import parsed_scale
from fluidcrew.exits import MEANING, Exit, Halt
from fluidcrew.fields import wrong_field
from fluidcrew.filters import facts_filter, stream_of, tokens_filter
from fluidcrew.since import parse_since
from fluidcrew.surroundings import api_url
from fluidcrew.task_file import is_drafted, parsed, read_task_file, request_of

NOW = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)
NODES = [{"id": "a", "title": "Say hello"}, {"id": "b", "title": "Say goodbye", "deps": ["a"]}]


def request(content: Any, title: str | None = "A study", **more: Any) -> dict[str, Any]:
    wishes: dict[str, Any] = {"description": None, "use_supervisor": False, "gate": None, "options": {}}
    return request_of(content, title=title, **{**wishes, **more})


@pytest.mark.parametrize(
    ("text", "ago"),
    [("10m", {"minutes": 10}), ("1h30m", {"hours": 1, "minutes": 30}), ("0.5d", {"hours": 12}), ("2w", {"weeks": 2})],
)
def test_since_takes_a_duration(text: str, ago: dict[str, int]) -> None:
    assert parse_since(text, NOW).at == NOW - timedelta(**ago)


def test_since_takes_a_moment_and_a_sequence_number() -> None:
    assert parse_since("2025-03-01T13:00:00+01:00").at == NOW
    assert parse_since("4711").sequence == 4711
    assert parse_since("0").sequence == 1


@pytest.mark.parametrize("text", ["", "yesterday", "10", "10 minutes", "-5m", "9" * 30, "99999999999999w", "10mx"])
def test_since_says_what_it_takes(text: str) -> None:
    if text == "10":
        assert parse_since(text).sequence == 10
        return
    with pytest.raises(Halt, match="--since") as halt:
        parse_since(text, NOW)
    assert halt.value.code is Exit.USAGE


@pytest.mark.parametrize(
    ("wish", "subject"),
    [
        (("", "", ""), "evt.*.*.*.*.*"),
        (("", "acme", ""), "evt.acme.*.*.*.*"),
        (("", "", "3f2a91c0-5b1d"), "evt.*.*.*.*.3f2a91c0-5b1d"),
        (("node", "", ""), "evt.*.*.node.*.*"),
        (("node.failed", "acme", "r1"), "evt.acme.*.node.failed.r1"),
        (("evt.*.planner.>", "", ""), "evt.*.planner.>"),
        (("live.>", "", ""), "live.>"),
    ],
)
def test_filters_follow_from_what_is_asked_for(wish: tuple[str, str, str], subject: str) -> None:
    assert facts_filter(*wish) == subject


@pytest.mark.parametrize(
    "wish", [("Node Failed", "", ""), ("a.b.c", "", ""), ("evt.>.x", "", ""), ("evt..x", "", ""), ("", "ACME!", "")]
)
def test_filters_that_are_none_are_refused_with_an_example(wish: tuple[str, str, str]) -> None:
    with pytest.raises(Halt) as halt:
        facts_filter(*wish)
    assert halt.value.code is Exit.USAGE


def test_a_whole_filter_says_everything_itself() -> None:
    with pytest.raises(Halt, match="drop --company and --run"):
        facts_filter("evt.>", "acme", "")


def test_what_is_stored_is_read_from_its_stream() -> None:
    assert stream_of("evt.>") == "EVENTS"
    assert stream_of("dlq.planner-runs") == "DLQ"
    assert stream_of(tokens_filter("", "r1")) is None


def test_a_list_of_nodes_is_a_plan() -> None:
    assert request(NODES) == {"task": NODES, "title": "A study"}


@pytest.mark.parametrize("name", ["plan", "nodes"])
def test_a_graph_is_a_plan_also_with_a_title_beside_it(name: str) -> None:
    graph = {"version": "1.0", name: NODES}
    assert request(graph) == {"task": graph, "title": "A study"}
    assert request({"title": "From the file", **graph}, title=None) == {"task": graph, "title": "From the file"}


def test_the_fields_of_a_task_spec_are_one() -> None:
    assert request({"type": "demo"}) == {"task_spec": {"type": "demo"}, "title": "A study"}
    assert request({"title": "T", "type": "demo"}, title=None) == {"task_spec": {"type": "demo"}, "title": "T"}
    assert request({"description": "Do it"})["task_spec"] == {"description": "Do it"}


def test_the_command_line_wins_over_the_file() -> None:
    file = {"title": "Old", "task": NODES, "gate": "gate", "options": {"dry_run": False, "max_attempts": 2}}
    body = request(file, title="New", gate="off", options={"dry_run": True, "timeout_s": 5.0, "llm_model": None})
    assert body == {
        "title": "New",
        "task": NODES,
        "gate": "off",
        "options": {"dry_run": True, "max_attempts": 2, "timeout_s": 5.0},
    }


def test_a_title_alone_goes_to_the_supervisor() -> None:
    assert request(None) == {"title": "A study", "task_spec": {}, "options": {"use_supervisor": True}}
    assert request({"title": "From the file"}, title=None)["options"] == {"use_supervisor": True}


@pytest.mark.parametrize("content", ["text", 7, True, None])
def test_a_file_that_holds_no_object_and_no_list_is_refused(content: Any) -> None:
    if content is None:
        assert request(content)
        return
    with pytest.raises(Halt, match="the file holds"):
        request(content)


def test_without_any_title_an_example_is_given() -> None:
    with pytest.raises(Halt, match="Give a title"):
        request(NODES, title=None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["plan", "title", "task", "nodes", "type"]), inner)
    ),
    max_leaves=8,
)


@given(json_values)
def test_whatever_a_file_holds_becomes_a_request_or_a_refusal(content: Any) -> None:
    try:
        body = request(content)
    except Halt as halt:
        body = {"task": halt.code} if halt.code is Exit.USAGE else {}
    assert sum(source in body for source in ("task", "task_spec", "task_file")) >= 1


def test_what_is_sent_fits_the_contract() -> None:
    for content in (NODES, {"plan": NODES}, {"type": "demo"}, None):
        body = request(content, options={"dry_run": True, "timeout_s": 5.0, "llm_backend": "openai", "llm_model": "m"})
        LaunchTask.model_validate({"command_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7", **body})


def test_a_mistake_in_json_is_named_by_line_and_column() -> None:
    with pytest.raises(Halt, match=r"plan\.json:3:1: this is no JSON"):
        parsed('{\n "a": 1,\n}', "plan.json")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(Halt, match="No such file"):
        read_task_file(tmp_path / "none.json")
    with pytest.raises(Halt, match="Is a directory"):
        read_task_file(tmp_path)
    latin = tmp_path / "latin.json"
    latin.write_bytes('["é"]'.encode("latin-1"))
    with pytest.raises(Halt, match="not UTF-8 at byte 2"):
        read_task_file(latin)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "windows.json"
    file.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_task_file(file) == [1]


def test_scale_is_read_or_refused() -> None:
    assert parsed_scale(["executor=2", "planner=0"]) == {"executor": 2, "planner": 0}
    for wrong in ("executor", "executor=", "executor=two", "executor=-1"):
        with pytest.raises(Halt, match="--scale executor=2"):
            parsed_scale([wrong])


def test_the_address_of_the_api_is_checked() -> None:
    assert api_url({"FLUIDCREW_URL": "https://crew.example.org/"}) == "https://crew.example.org"
    assert api_url({"PORT": "9000"}) == "http://127.0.0.1:9000"
    with pytest.raises(Halt) as halt:
        api_url({"FLUIDCREW_URL": "crew.example.org:8000"})
    assert halt.value.code is Exit.SETTINGS


def test_every_exit_code_has_a_meaning_and_a_bug_is_told_from_a_refusal() -> None:
    assert set(MEANING) == set(Exit)
    assert halt_of(ZeroDivisionError("division by zero")).code is Exit.INTERNAL


@pytest.mark.parametrize(
    ("content", "drafted"),
    [
        (None, True),
        (NODES, False),
        ({"plan": NODES}, False),
        ({"type": "demo"}, False),
        ({"title": "x", "task_spec": {"plan": NODES}}, False),
        ({"title": "x", "task_spec": {"description": "more about it"}}, True),
        ({"title": "x", "task_file": "plan.json"}, False),
    ],
)
def test_only_what_a_model_plans_is_called_planned(content: Any, drafted: bool) -> None:
    assert is_drafted(request(content)) is drafted


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (["body", "task", "plan", 1, "depends"], "plan[1].depends: there is no such field; did you mean deps?"),
        (["body", "task", "plan", 0, "Depends-On"], "plan[0].Depends-On: there is no such field; did you mean deps?"),
        (["body", "task", "plan", 0, "titel"], "plan[0].titel: there is no such field; did you mean title?"),
        (
            ["body", "task", "plan", 0, "description"],
            "plan[0].description: there is no such field; did you mean instructions?",
        ),
        (["body", "task", "plan", 0, "colour"], "plan[0].colour: a node has id, title, deps, "),
        (["body", "options", "depends"], "options.depends: there is no such field"),
        (["body", "plan"], "plan: there is no such field"),
    ],
)
def test_an_unknown_field_is_named_with_what_was_probably_meant(place: list[str | int], said: str) -> None:
    error = {"type": "extra_forbidden", "loc": place, "msg": "Extra inputs are not permitted"}
    line = wrong_field(error)
    assert line == said or (said.endswith(", ") and line.startswith(said))
