"""What makes two orders the same one, across the releases that may have built them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pydantic import Field, create_model

from chassis.unit_of_work import fingerprint
from contracts.executor import ControlMode, ControlRun, RunAction
from contracts.feedback import GiveFeedback

RUN = uuid4()


def order(**more: Any) -> ControlRun:
    return ControlRun(command_id=uuid4(), run_id=RUN, action=more.pop("action", RunAction.PAUSE), **more)


def test_the_command_id_and_who_asks_make_no_difference_and_what_is_asked_does() -> None:
    assert fingerprint(order()) == fingerprint(order(by="ada"))
    assert fingerprint(order()) != fingerprint(order(action=RunAction.CANCEL))
    assert fingerprint(order()) != fingerprint(order(mode=ControlMode.INTERRUPT))


def test_when_it_was_asked_makes_no_difference() -> None:
    """A repetition comes later than what it repeats."""
    ids = {"run_id": RUN, "node_id": uuid4(), "score": 35}
    first, again = (GiveFeedback(command_id=uuid4(), asked_at=datetime.now(UTC), **ids) for _ in range(2))
    assert fingerprint(first) == fingerprint(again)
    assert fingerprint(first) != fingerprint(again.model_copy(update={"score": 36}))


def test_a_field_that_a_later_release_adds_with_a_default_makes_no_other_order() -> None:
    node = create_model("Node", key=(str, ...))
    later_node = create_model("Node", key=(str, ...), tags=(list[str], Field(default_factory=list)))
    before = create_model("Order", title=(str, ...), node=(node, ...))
    after = create_model("Order", title=(str, ...), node=(later_node, ...), reuse=(str | None, None))
    asked = {"title": "t", "node": {"key": "a"}}
    assert fingerprint(before(**asked)) == fingerprint(after(**asked))
    assert fingerprint(after(**asked)) != fingerprint(after(**asked, reuse="r"))
