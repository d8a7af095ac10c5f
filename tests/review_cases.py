"""What an executor says of an attempt when it is asked, for services that are tested without one."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from contracts.executor import NodeStatus, RunNode
from contracts.plan import Gate
from contracts.review import ReviewCase


def review_case(spec: dict[str, Any], **fields: Any) -> ReviewCase:
    """The case of the node `spec`. Of `fields` those of a RunNode are the node's, except its gate, which both have."""
    output = fields.get("output")
    theirs = {name: fields.pop(name) for name in list(fields) if name in RunNode.model_fields and name != "gate"}
    given: dict[str, Any] = {
        "run_id": uuid4(),
        "run_title": "A guide for sailors",
        "project_id": "default",
        "task_id": uuid4(),
        "node_id": uuid4(),
        "attempt": 1,
        "current": True,
        "status": NodeStatus.RUNNING,
        "gate": Gate.OFF,
        "spec": RunNode.model_validate({"title": "Write on tides"} | spec | theirs),
        "author": None,
        "output": None,
        "output_ref": None,
        "output_size": None if output is None else len(output.encode()),
        "checksum": None,
    }
    return ReviewCase.model_validate(given | fields)
