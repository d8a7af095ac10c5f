"""Collecting: when a node completes, its result and what it has written become artifacts, all of them or none."""

from __future__ import annotations

from uuid import UUID, uuid4

import structlog
from prometheus_client import Counter
from pydantic import BaseModel

from chassis.job_table import Job, NotYet
from chassis.unit_of_work import Tx
from contracts.artifacts import Visibility
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection, RetryLater
from contracts.plan import ArtifactKind
from contracts.review import GetReviewCase, ReviewCase
from contracts.run_facts import NodeCompleted, NodeReused
from contracts.streams import PUBLISHER_RESULTS
from services.publisher.domain.media import kind_of
from services.publisher.domain.outputs import document, summary_of
from services.publisher.handlers.delivering import anew, deliver, next_version, receive
from services.publisher.handlers.means import Means
from services.publisher.store.artifacts import ArtifactStore, NewArtifact, Place
from services.publisher.store.previews import NewPreview
from services.publisher.store.staged import Staged, StagedStore

log = structlog.get_logger(__name__)

KIND = "collect"
ATTEMPTS = 10_000  # a week of them: nobody else has the result, and nobody would miss it
LONGEST_PAUSE = 10.0  # seconds between looks for what is away
PATIENCE = 5  # looks for what an earlier node delivered before its result alone is taken
OUTPUT, SITE = "output", "site"

COLLECTED = Counter("publisher_collected_total", "Attempts whose deliverables were collected, by outcome", ["outcome"])


class CollectOrder(BaseModel):
    """The payload of a collection's job. `reused_from` is the node whose result was taken over."""

    run_id: UUID
    node_id: UUID
    attempt: int
    reused_from: UUID | None = None


class Collecting(Means):
    async def on_completed(self, fact: NodeCompleted, envelope: Envelope) -> None:
        """What has no output was no agent's work and delivers nothing: it costs no transaction."""
        if fact.checksum is not None:
            order = CollectOrder(run_id=fact.run_id, node_id=fact.node_id, attempt=fact.attempt)
            await self._enqueue(order, fact.company, envelope)

    async def on_reused(self, fact: NodeReused, envelope: Envelope) -> None:
        if fact.checksum is not None:
            place = {"run_id": fact.run_id, "node_id": fact.node_id, "attempt": fact.attempt}
            order = CollectOrder(**place, reused_from=fact.from_node_id)
            await self._enqueue(order, fact.company, envelope)

    async def _enqueue(self, order: CollectOrder, company: str, envelope: Envelope) -> None:
        async with self.uow.handling(envelope, PUBLISHER_RESULTS.durable) as tx:
            ref = f"{order.node_id}:{order.attempt}"
            await self.jobs.enqueue(tx, KIND, ref, order.model_dump(mode="json"), company=company)

    async def work(self, job: Job) -> None:
        """Of an executor or a store that is away nothing is lost: it goes on when they are back."""
        try:
            await self._collect(job, CollectOrder.model_validate(job.payload))
        except RetryLater as away:
            raise NotYet(job.pause(LONGEST_PAUSE), str(away)) from None

    async def _collect(self, job: Job, order: CollectOrder) -> None:
        case = await self._case(job, order)
        if case is None:
            return await self._lapse(job)
        if order.reused_from is not None and (earlier := await self._earlier(job, order.reused_from)):
            return await self._record(job, _place(job, case, order), earlier)
        return await self._record(job, _place(job, case, order), [await self._output(job, case)])

    async def _case(self, job: Job, order: CollectOrder) -> ReviewCase | None:
        """None when the run is gone by now."""
        place = {"node_id": order.node_id, "run_id": order.run_id, "attempt": order.attempt}
        try:
            return await self.bus.ask(GetReviewCase(company=job.company, **place), job.context)
        except Rejection as refusal:
            if refusal.failure.code is Code.INTERNAL:
                raise RetryLater(1.0, str(refusal)) from None
            if refusal.failure.code is not Code.NOT_FOUND:
                raise
            return None

    async def _earlier(self, job: Job, node_id: UUID) -> list[NewArtifact]:
        """What the earlier node delivered. Raises RetryLater while that is still being collected, or may be."""
        store = ArtifactStore(self.pool, self.origin)
        if await StagedStore(self.pool).awaits_collection(KIND, node_id):
            raise RetryLater(1.0, f"what node {node_id} delivered is being collected")
        items = await store.of_earlier(job.company, node_id)
        if not items and job.waits < PATIENCE:
            raise RetryLater(1.0, f"nothing is known yet of what node {node_id} delivered")
        sizes = {item.sha256: item.size or 0 for item in items if item.sha256 is not None}
        missing = await self.depot.want(job.company, sizes)
        return anew(item for item in items if item.sha256 not in missing)

    async def _output(self, job: Job, case: ReviewCase) -> NewArtifact:
        found = document(case.spec.key, await self._text(case), case.spec.params)
        data = found.text.encode()
        return NewArtifact(
            id=uuid4(),
            slot=OUTPUT,
            kind=ArtifactKind.DOCUMENT,
            name=found.name,
            visibility=Visibility.PRIVATE,
            content_type=found.content_type,
            size=len(data),
            sha256=await self.depot.keep(job.company, data, found.content_type),
            summary=summary_of(found.text, found.content_type),
        )

    async def _text(self, case: ReviewCase) -> str:
        """All of it; of what is no longer in the store, the beginning."""
        if case.output_ref is None:
            return case.output or ""
        try:
            return (await self.depot.blobs.get(case.output_ref)).decode("utf-8", "replace")
        except Rejection as gone:
            log.warning("collect.result_is_gone", node_id=str(case.node_id), reason=str(gone))
            return case.output or ""

    async def _record(self, job: Job, place: Place, items: list[NewArtifact]) -> None:
        assert place.node_id is not None
        assert place.attempt is not None
        async with self.uow.begin(job.context) as tx:
            await self.jobs.finish(tx, job, {})
            store = StagedStore(tx.conn)
            staged = await store.of(place.node_id, place.attempt)
            items = [*items, *_written(staged)]
            if staged.entry is not None:
                items.append(await self._site(tx, place, staged, staged.entry))
            await deliver(tx, self.origin, place, items)
            await store.clear(place.node_id, place.attempt)
        COLLECTED.labels("collected").inc()

    async def _site(self, tx: Tx, place: Place, staged: Staged, entry: str) -> NewArtifact:
        """The files that the attempt wrote, as the next version of its task's site. What is wrong with them is found when
        they are published."""
        site_id = place.task_id or place.run_id
        assert site_id is not None
        new = NewPreview(
            id=uuid4(),
            company_id=place.company_id,
            project_id=place.project_id,
            task_id=site_id,
            version=await next_version(tx, place),
            source="files",
            visibility=self.shown_to,
            tree={path: [file.sha256, file.size] for path, file in staged.files.items()},
            wanted_entry=entry,
            run_id=place.run_id,
            node_id=place.node_id,
            attempt=place.attempt,
            made_by=place.made_by,
        )
        size = sum(file.size for file in staged.files.values())
        await receive(tx, self.jobs, self.origin, new, size=size, story_of=place.story_of)
        return NewArtifact(
            new.id, SITE, ArtifactKind.PREVIEW, f"{place.node_key} (site)", self.shown_to, preview_id=new.id
        )

    async def _lapse(self, job: Job) -> None:
        async with self.uow.begin(job.context) as tx:
            await self.jobs.finish(tx, job, {"lapsed": True})
        COLLECTED.labels("lapsed").inc()
        log.info("collect.lapsed", job=job.ref, reason="the run is gone")


def _place(job: Job, case: ReviewCase, order: CollectOrder) -> Place:
    return Place(
        company_id=job.company,
        project_id=case.project_id,
        task_id=case.task_id,
        run_id=case.run_id,
        node_id=case.node_id,
        node_key=case.spec.key,
        attempt=order.attempt,
        made_by=case.spec.agent_id or case.spec.role,
    )


def _written(staged: Staged) -> list[NewArtifact]:
    files = [
        NewArtifact(
            id=uuid4(),
            slot=f"file {path}",
            kind=kind_of(file.content_type),
            name=path.rsplit("/", 1)[-1],
            visibility=Visibility.PRIVATE,
            path=path,
            content_type=file.content_type,
            size=file.size,
            sha256=file.sha256,
            summary=file.summary,
        )
        for path, file in staged.files.items()
    ]
    links = [
        NewArtifact(uuid4(), f"link {url}", ArtifactKind.LINK, title, Visibility.PRIVATE, url=url)
        for url, title in staged.links.items()
    ]
    return files + links
