"""Names of a run's nodes: unique, valid, and side by side in an index."""

from __future__ import annotations

from uuid import RFC_4122, uuid4, uuid5

import pytest

from services.executor.domain.names import ids_of_nodes


@pytest.mark.parametrize("run_id", [uuid4(), uuid5(uuid4(), "given by somebody else")])
def test_ids_are_valid_distinct_and_begin_with_their_runs(run_id):
    ids = ids_of_nodes(run_id, 2_000)

    assert len(set(ids)) == 2_000
    assert {(id.version, id.variant) for id in ids} == {(4, RFC_4122)}
    assert {id.bytes[:6] for id in ids} == {run_id.bytes[:6]}


def test_another_run_lies_elsewhere():
    first, second = ids_of_nodes(uuid4(), 100), ids_of_nodes(uuid4(), 100)

    together = sorted([*first, *second])

    assert together in ([*sorted(first), *sorted(second)], [*sorted(second), *sorted(first)])
