"""The outbox as tests look at it: what waits, what was published, and under which headers a row is told."""

from __future__ import annotations

UNPUBLISHED = "select count(*) from outbox o join outbox_batches b on b.id = o.batch where b.published_at is null"
PUBLISHED = "select count(*) from outbox o join outbox_batches b on b.id = o.batch where b.published_at is not null"
#: `node.completed`, of a row of the outbox
FACT = "split_part(subject, '.', 4) || '.' || split_part(subject, '.', 5)"


def headers_in(head: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
