"""How people write what a node owes, and which paths a deliverable may have."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from contracts.plan import ArtifactKind, Deliverable, PlanNode


def test_a_deliverable_as_text_is_a_path_or_a_kind() -> None:
    node = PlanNode.model_validate({"id": "a", "title": "A", "deliverables": ["preview", "site/index.html"]})
    assert node.deliverables == [Deliverable(kind=ArtifactKind.PREVIEW), Deliverable(path="site/index.html")]


def test_a_deliverable_names_a_path_or_a_kind() -> None:
    with pytest.raises(ValidationError, match="name a `path`"):
        Deliverable.model_validate({})


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", ".git/config", "a//b", "C:\\x", "a/../b", "a/.", "", "é.html", "a\x00b", "x" * 301]
)
def test_a_path_that_could_leave_its_folder_or_hide_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        Deliverable(path=path)
