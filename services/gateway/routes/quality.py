"""Reports: the quality of a run, what went wrong in it, and quality over time; for programs and, as Markdown, for people."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response

from contracts.feedback import GetQaReport, GetQuality, QaReport, Quality
from contracts.refs import Slug
from services.gateway.deps import DeskDep, FormDep, HappenedDep, PartsDep
from services.gateway.domain.forms import Form
from services.gateway.incidents import incident_of
from services.gateway.known import refuse_unknown_company, title_of_run
from services.gateway.problems import describe
from services.gateway.reports import incident_report, markdown_answer, qa_report
from services.gateway.review_schemas import Incident

router = APIRouter(tags=["reports"])
AS_MARKDOWN = {"content": {Form.MARKDOWN.value: {"schema": {"type": "string"}}}}
ExportQuery = Annotated[bool, Query(description="as an attachment with a name")]


@router.get("/runs/{run_id}/qa-report", response_model=QaReport, responses={200: AS_MARKDOWN, **describe(404, 406)})
async def get_qa_report(desk: DeskDep, form: FormDep, run_id: UUID) -> QaReport | Response:
    """Computed from the run's feedbacks: per node its verdict in force and failed criteria; totals."""
    title = await title_of_run(desk, run_id)
    report = await desk.ask(GetQaReport(run_id=run_id))
    return report if form is Form.JSON else markdown_answer(qa_report(report, title))


@router.get("/runs/{run_id}/incident", response_model=Incident, responses={200: AS_MARKDOWN, **describe(404, 406)})
async def get_incident(
    desk: DeskDep, parts: PartsDep, form: FormDep, run_id: UUID, response: Response, export: ExportQuery = False
) -> Incident | Response:
    """Nodes that failed or are held, with their events; the run's latest events; and signs of what is wrong with it."""
    incident = await incident_of(desk, parts.feed, run_id)
    answer = response if form is Form.JSON else markdown_answer(incident_report(incident))
    if export:
        suffix = "json" if form is Form.JSON else "md"
        answer.headers["Content-Disposition"] = f'attachment; filename="incident-{run_id}.{suffix}"'
    return incident if form is Form.JSON else answer


@router.get("/quality", responses=describe(404))
async def get_quality(
    desk: DeskDep,
    happened: HappenedDep,
    by: Annotated[Literal["agent", "role", "model"], Query(description="whose quality")],
    bucket: Annotated[Literal["day", "week"] | None, Query(description="one row for each, by UTC")] = None,
    project: Slug | None = None,
) -> Quality:
    """Average score, share of first attempts that were accepted, critical ones; over at most 31 days when both ends are
    given."""
    asked = GetQuality(by=by, bucket=bucket, project=project, ts_from=happened[0], ts_to=happened[1])
    quality = await desk.ask(asked)
    if not quality.items:
        await refuse_unknown_company(desk)
    return quality
