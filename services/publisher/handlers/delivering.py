"""What delivering does: versions of artifacts, facts about them, and a preview that somebody will publish."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from chassis.jobs import Jobs
from chassis.unit_of_work import Tx
from contracts.artifacts import ArtifactCreated
from contracts.previews import Preview, PreviewReceived
from services.publisher.domain.addresses import LABEL_BYTES, Origin, label_of
from services.publisher.store.artifacts import ArtifactStore, NewArtifact, Place
from services.publisher.store.previews import NewPreview, PreviewStore
from services.publisher.store.sites import SiteStore

PUBLISH = "publish"  # the job


async def deliver(tx: Tx, origin: Origin, place: Place, items: Sequence[NewArtifact]) -> None:
    """Each becomes the next version of its name, unless the attempt has delivered it before."""
    store = ArtifactStore(tx.conn, origin)
    await store.hold(place)
    for item in items:
        if (version := await store.add(place, item)) is not None:
            tx.publish(_created(place, item, version))


async def next_version(tx: Tx, place: Place) -> int:
    """Of the place's site, which is made and held."""
    sites, site_id = SiteStore(tx.conn), place.task_id or place.run_id
    assert site_id is not None, "it is made in a run or for a task"
    await sites.hold(place.company_id, site_id, place.project_id, label_of(secrets.token_bytes(LABEL_BYTES)))
    return await sites.number(place.company_id, site_id)


async def receive(tx: Tx, jobs: Jobs, origin: Origin, new: NewPreview, *, size: int | None, story_of: UUID) -> None:
    """From here on it will be published, or fail with a reason."""
    await PreviewStore(tx.conn, origin).add(new)
    await jobs.enqueue(tx, PUBLISH, str(new.id), {"preview_id": str(new.id)}, company=new.company_id)
    tx.publish(
        PreviewReceived(
            company=new.company_id,
            preview_id=new.id,
            story_of=story_of,
            task_id=new.task_id,
            version=new.version,
            size=size,
            by=new.made_by,
        )
    )


def told(preview: Preview) -> dict[str, Any]:
    """What every fact about it says."""
    return {
        "company": preview.company_id,
        "preview_id": preview.id,
        "story_of": preview.run_id or preview.task_id,
        "task_id": preview.task_id,
        "version": preview.version,
    }


def anew(items: Iterable[NewArtifact]) -> list[NewArtifact]:
    """The same once more, with ids of their own."""
    return [replace(item, id=uuid4()) for item in items]


def _created(place: Place, item: NewArtifact, version: int) -> ArtifactCreated:
    return ArtifactCreated(
        company=place.company_id,
        artifact_id=item.id,
        story_of=place.story_of,
        task_id=place.task_id,
        run_id=place.run_id,
        node_id=place.node_id,
        name=item.name,
        artifact_kind=item.kind,
        version=version,
        size=item.size,
        content_type=item.content_type,
    )
