"""Previews: web deliverables that open at an address of their own, their versions, pins, shared links and retention."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from contracts.message import Event, Request
from contracts.page import Page, PageRequest
from contracts.plan import FilePath, Name, Text
from contracts.refs import BlobRef, Value

LARGEST_ARCHIVE = 50 * 2**20  # bytes of a ZIP that is published


class PreviewState(StrEnum):
    RECEIVED = "received"  # its bytes are stored; a worker will take it up
    PUBLISHING = "publishing"
    READY = "ready"
    FAILED = "failed"  # `error` says why; publish again with what it asks for


class Preview(Value):
    """A version of a task's site. `url` is where this very version is served, `latest_url` where the newest one is;
    both null until it is ready."""

    id: UUID
    company_id: str
    project_id: str
    task_id: UUID
    run_id: UUID | None
    node_id: UUID | None
    version: int  # counts from 1 within the task
    state: PreviewState
    error: str | None
    entry: str
    files: int | None
    size: int | None  # bytes of all files
    latest: bool
    approved: bool
    shared: bool
    url: str | None
    latest_url: str | None
    source: Literal["zip", "files"]
    made_by: str | None
    created_at: AwareDatetime
    ready_at: AwareDatetime | None


class SubmitPreview(Request[Preview], owner="publisher", entity="preview", verb="submit", patience=8.0):
    """Publish a stored ZIP, or the ZIP that an artifact is. Answered once it is on record; the work follows.

    Exactly one of `ref` and `artifact_id`. `entry` is the page that opens first, and its folder the site; None: index.html,
    in the folder that all files share if they do.
    """

    command_id: UUID
    task_id: UUID
    ref: BlobRef | None = None
    artifact_id: UUID | None = None
    name: str | None = None  # of the file, as it was sent
    entry: FilePath | None = None
    by: Name | None = None


class ListPreviews(PageRequest[Page[Preview]], owner="publisher", entity="preview", verb="list"):
    """The newest first."""

    task_id: UUID | None = None
    run_id: UUID | None = None
    state: PreviewState | None = None


class GetPreview(Request[Preview], owner="publisher", entity="preview", verb="get"):
    """By its id, or of a task: `latest`, `approved`, or a version's number as text."""

    preview_id: UUID | None = None
    task_id: UUID | None = None
    which: Annotated[str, Field(pattern=r"^(latest|approved|[1-9][0-9]{0,8})$")] = "latest"


class PinPreview(Request[Preview], owner="publisher", entity="preview", verb="pin"):
    """Makes it the approved version of its task; the one that was loses its pin. Refused unless it is ready."""

    command_id: UUID
    preview_id: UUID
    by: Name | None = None


class UnpinPreview(Request[Preview], owner="publisher", entity="preview", verb="unpin"):
    command_id: UUID
    preview_id: UUID
    by: Name | None = None


class ChangedFile(Value):
    path: str
    before: int  # bytes
    after: int


class PreviewChanges(Value):
    """What version `to` has that `from_version` has not, the other way round, and what differs in content."""

    task_id: UUID
    from_version: int
    to_version: int
    added: list[str]
    removed: list[str]
    changed: list[ChangedFile]
    same: int


class ComparePreviews(Request[PreviewChanges], owner="publisher", entity="preview", verb="compare"):
    task_id: UUID
    from_version: int
    to_version: int


class Share(Value):
    """`url` with its secret is shown once, when it is made. It answers until `expires_at`, or until it is revoked."""

    id: UUID
    preview_id: UUID | None
    artifact_id: UUID | None
    url: str | None
    expires_at: AwareDatetime
    revoked_at: AwareDatetime | None
    made_by: str | None
    created_at: AwareDatetime


class CreateShare(Request[Share], owner="publisher", entity="share", verb="create"):
    """Exactly one of `preview_id` and `artifact_id`. `expires_in` in seconds."""

    command_id: UUID
    preview_id: UUID | None = None
    artifact_id: UUID | None = None
    expires_in: Annotated[int, Field(ge=60, le=365 * 86_400)] = 7 * 86_400
    by: Name | None = None


class ListShares(PageRequest[Page[Share]], owner="publisher", entity="share", verb="list"):
    preview_id: UUID | None = None
    artifact_id: UUID | None = None


class RevokeShare(Request[Share], owner="publisher", entity="share", verb="revoke"):
    command_id: UUID
    share_id: UUID
    by: Name | None = None


class Removal(Value):
    """What retention removes, or did: `why` names the rule."""

    what: Literal["preview", "artifact", "object"]
    id: str
    task_id: UUID | None
    version: int | None
    size: int | None
    why: str
    at: AwareDatetime | None = None  # null while it only would


class SweepReport(Value):
    dry_run: bool
    items: list[Removal]
    size: int  # bytes
    more: bool


class Sweep(Request[SweepReport], owner="publisher", entity="retention", verb="sweep", patience=10.0):
    """Removes what is beyond what is kept, up to 1,000 items; with `dry_run` says what it would."""

    command_id: UUID
    dry_run: bool = True
    task_id: UUID | None = None
    by: Name | None = None


class ListRemovals(PageRequest[Page[Removal]], owner="publisher", entity="retention", verb="removals"):
    task_id: UUID | None = None


class PreviewFact(Event):
    preview_id: UUID
    story_of: UUID  # the run that made it, or the task it was sent to
    task_id: UUID
    version: int


class PreviewReceived(PreviewFact, owner="publisher", entity="preview", verb="received", story="story_of"):
    size: int | None
    by: str | None = None


class PreviewReady(PreviewFact, owner="publisher", entity="preview", verb="ready", story="story_of"):
    url: str
    files: int
    size: int


class PreviewFailed(PreviewFact, owner="publisher", entity="preview", verb="failed", story="story_of"):
    error: Text


class PreviewPinned(PreviewFact, owner="publisher", entity="preview", verb="pinned", story="story_of"):
    by: str | None = None


class PreviewUnpinned(PreviewFact, owner="publisher", entity="preview", verb="unpinned", story="story_of"):
    by: str | None = None


class PreviewRemoved(PreviewFact, owner="publisher", entity="preview", verb="removed", story="story_of"):
    reason: str
    by: str | None = None


class PreviewShared(PreviewFact, owner="publisher", entity="preview", verb="shared", story="story_of"):
    share_id: UUID
    expires_at: AwareDatetime
    by: str | None = None


class PreviewUnshared(PreviewFact, owner="publisher", entity="preview", verb="unshared", story="story_of"):
    share_id: UUID
    by: str | None = None
