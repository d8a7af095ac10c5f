"""What the end of a publication does to its site, and to who listens: all of it in the caller's transaction."""

from __future__ import annotations

from chassis.unit_of_work import Tx
from contracts.previews import PreviewFailed, PreviewReady
from services.publisher.domain.addresses import Origin
from services.publisher.domain.versions import latest_after
from services.publisher.store.previews import PreviewStore, Submission
from services.publisher.store.sites import Files, SiteStore

MOST_OF_AN_ERROR = 2_000  # characters


async def make_ready(tx: Tx, origin: Origin, what: Submission, entry: str, files: Files) -> bool:
    """The version is published, whole, and the site switches to it unless it shows a newer one. Once."""
    sites, previews = SiteStore(tx.conn), PreviewStore(tx.conn, origin)
    site = await sites.lock(what.company_id, what.task_id)
    if site is None or not await previews.ready(what.id, entry, files):
        return False
    await sites.shows(site, latest_after(site.latest, what.version), site.approved)
    url = origin.version(site.label, what.version, what.company_id, what.project_id, what.task_id)
    size = sum(size for _, size in files.values())
    tx.publish(
        PreviewReady(
            company=what.company_id,
            preview_id=what.id,
            story_of=what.story_of,
            task_id=what.task_id,
            version=what.version,
            url=url,
            files=len(files),
            size=size,
        )
    )
    return True


async def make_failed(tx: Tx, origin: Origin, what: Submission, error: str) -> bool:
    """It ends with a reason for people to read. Once."""
    if not await PreviewStore(tx.conn, origin).fail(what.id, error[:MOST_OF_AN_ERROR]):
        return False
    tx.publish(
        PreviewFailed(
            company=what.company_id,
            preview_id=what.id,
            story_of=what.story_of,
            task_id=what.task_id,
            version=what.version,
            error=error[:MOST_OF_AN_ERROR],
        )
    )
    return True
