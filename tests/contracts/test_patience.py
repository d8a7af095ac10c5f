"""How long callers wait: a model may need a minute, everything else has ten seconds."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from contracts.catalog import REQUESTS
from contracts.executor import StartRun
from contracts.message import Request
from contracts.planner import DRAFTING, CreateTask, DraftPlan, LaunchTask, StartTask

QUICK = 10.0


def test_only_a_draft_is_always_waited_for_as_long_as_a_model_may_take() -> None:
    patient = {request for request in REQUESTS if request.patience > QUICK}
    assert patient == {DraftPlan}
    assert StartRun.patience < StartTask.patience, "the planner's own question must have failed before its caller's"


@pytest.mark.parametrize(
    ("request_", "seconds"),
    [
        (CreateTask(command_id=uuid4(), title="t"), QUICK),
        (CreateTask(command_id=uuid4(), title="t", auto_plan=True), DRAFTING),
        (CreateTask(command_id=uuid4(), title="t", auto_start=True), DRAFTING),
    ],
    ids=["draft", "auto_plan", "auto_start"],
)
def test_a_task_is_created_quickly_unless_it_is_planned_at_once(request_: Request[Any], seconds: float) -> None:
    assert request_.waits() == seconds


def test_an_ad_hoc_run_is_launched_quickly_unless_a_model_may_have_to_plan_it() -> None:
    graph = [{"id": "a", "title": "x"}]
    for source, seconds in (
        ({"task": graph}, QUICK),
        ({"task_spec": {"plan": graph}}, QUICK),
        ({"task_spec": {"type": "demo"}}, QUICK),
        ({"task_spec": {"type": "demo"}, "options": {"use_supervisor": True}}, DRAFTING),
        ({"task_spec": {"description": "a study"}}, DRAFTING),
        ({"task_file": "study.json"}, DRAFTING),
    ):
        launch = LaunchTask.model_validate({"command_id": uuid4(), "title": "t", **source})
        assert launch.waits() == seconds, source
