"""Reports: how a run's results were judged, and quality over time."""

from __future__ import annotations

from chassis.context import Context
from chassis.postgres import Pool
from contracts.feedback import GetQaReport, GetQuality, QaReport, Quality
from services.feedback.domain.reports import report
from services.feedback.store.reports import ReportStore


class Reports:
    def __init__(self, pool: Pool) -> None:
        self._store = ReportStore(pool)

    async def of_run(self, request: GetQaReport, _: Context) -> QaReport:
        """Of a run that nobody has judged, or that is not there, there is nothing in it."""
        return report(request.run_id, *await self._store.nodes(request.company, request.run_id))

    async def quality(self, request: GetQuality, _: Context) -> Quality:
        return Quality(by=request.by, items=await self._store.quality(request))
