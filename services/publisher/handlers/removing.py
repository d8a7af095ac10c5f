"""What removing does: rows go, the site shows what is left of it, and it stays on record what went and why."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from chassis.unit_of_work import Tx
from contracts.artifacts import Artifact, ArtifactRemoved
from contracts.errors import Code, Rejection
from contracts.previews import PreviewRemoved, Removal
from services.publisher.domain.retention import Kept, latest_of, why_kept
from services.publisher.store.artifacts import ArtifactStore
from services.publisher.store.removals import Gone, RemovalStore
from services.publisher.store.sites import Site, SiteStore

ASKED = "somebody removed it"


async def remove_artifact(tx: Tx, store: ArtifactStore, artifact: Artifact, by: str | None) -> None:
    """Raises Rejection(illegal_state) while something needs it. It is locked."""
    if why := await store.in_use(artifact):
        raise Rejection(Code.ILLEGAL_STATE, f"{artifact.name} stays: {why}", state="in_use", legal=["not in use"])
    gone = await RemovalStore(tx.conn).remove_artifact(artifact.id)
    await tell_of_artifacts(tx, [gone], ASKED, by)


async def remove_preview(tx: Tx, site: Site, id: UUID, by: str | None) -> None:
    """The latest one may go as well: the site shows the one before it. Raises Rejection(illegal_state)."""
    versions = await RemovalStore(tx.conn).versions(site.company_id, site.task_id)
    version = next(each for each in versions if each.id == id)
    if why := why_kept(version):
        raise Rejection(
            Code.ILLEGAL_STATE, f"version {version.version} stays: {why}", state=version.state, legal=["not in use"]
        )
    await drop(tx, site, [version], versions, ASKED, by)


async def drop(tx: Tx, site: Site, gone: Iterable[Kept], versions: list[Kept], why: str, by: str | None) -> None:
    """Versions of a site that is locked."""
    removals, left = RemovalStore(tx.conn), list(versions)
    for each in gone:
        left.remove(each)
        listed = await removals.remove_preview(each.id)
        tx.publish(
            PreviewRemoved(
                company=site.company_id,
                preview_id=each.id,
                story_of=each.run_id or site.task_id,
                task_id=site.task_id,
                version=each.version,
                reason=why,
                by=by,
            )
        )
        await removals.note(site.company_id, [of_preview(site.task_id, each, why)], by)
        await tell_of_artifacts(tx, listed, why, by)
    await SiteStore(tx.conn).shows(site, latest_of(left), site.approved)


async def tell_of_artifacts(tx: Tx, gone: Iterable[Gone], why: str, by: str | None) -> None:
    for each in gone:
        await RemovalStore(tx.conn).note(each.company_id, [of_artifact(each, why)], by)
        story = each.run_id or each.task_id
        assert story is not None, "it was made in a run or for a task"
        tx.publish(
            ArtifactRemoved(
                company=each.company_id,
                artifact_id=each.id,
                story_of=story,
                task_id=each.task_id,
                run_id=each.run_id,
                node_id=each.node_id,
                name=each.name,
                artifact_kind=each.kind,
                reason=why,
                by=by,
            )
        )


def of_preview(task_id: UUID, version: Kept, why: str) -> Removal:
    return Removal(
        what="preview",
        id=str(version.id),
        task_id=task_id,
        version=version.version,
        size=version.size,
        why=why,
    )


def of_artifact(gone: Gone, why: str) -> Removal:
    return Removal(
        what="artifact", id=str(gone.id), task_id=gone.task_id, version=gone.version, size=gone.size, why=why
    )
