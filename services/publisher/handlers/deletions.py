"""A task that was deleted: its hosts and links answer no more, and retention takes what it delivered."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.unit_of_work import UnitOfWork
from contracts.envelope import Envelope
from contracts.planner import TaskWasDeleted
from contracts.previews import PreviewUnshared
from contracts.streams import PUBLISHER_TASKS
from services.publisher.store.deletions import DeletionStore, Unshared
from services.publisher.store.sites import SiteStore


@dataclass(frozen=True, slots=True)
class Deletions:
    uow: UnitOfWork

    async def on_deleted(self, fact: TaskWasDeleted, envelope: Envelope) -> None:
        """The site first: who shares or pins one of its versions holds it."""
        async with self.uow.handling(envelope, PUBLISHER_TASKS.durable) as tx:
            await SiteStore(tx.conn).lock(fact.company, fact.task_id)
            store = DeletionStore(tx.conn)
            await store.note(fact.company, fact.task_id)
            unshared = await store.revoke_shares(fact.company, fact.task_id)
            tx.publish(*(_told(fact, each) for each in unshared))


def _told(fact: TaskWasDeleted, each: Unshared) -> PreviewUnshared:
    return PreviewUnshared(
        company=fact.company,
        preview_id=each.preview_id,
        story_of=each.run_id or fact.task_id,
        task_id=fact.task_id,
        version=each.version,
        share_id=each.share_id,
    )
