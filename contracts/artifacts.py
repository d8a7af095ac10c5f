"""Artifacts: what nodes and people deliver, as the publisher keeps it; the bytes lie in the object store."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from contracts.message import Event, Request
from contracts.page import Page, PageRequest
from contracts.plan import ArtifactKind, FilePath, Name, Strict, Text, Title
from contracts.refs import BlobRef, Slug, Value
from contracts.tool import UseTool

QUICK = 10.0  # seconds; nobody has to be waited for longer who only writes something down
LARGEST_WRITTEN = 1_000_000  # characters of a file that an agent writes in one call


def object_key(company: str, sha256: str) -> str:
    """Where the bytes of deliverables lie in the object store: apart from all else, so that nothing else is ever removed."""
    return f"{company}/artifacts/{sha256}"


class Visibility(StrEnum):
    """Who may read it beside those with a key."""

    PRIVATE = "private"  # nobody, unless it is shared by a link
    PUBLIC = "public"  # whoever knows its address


class Artifact(Value):
    """`version` counts what was delivered under the same name by the same node of a plan, or by people to the same task;
    `path` is where it lay among the files of its attempt. `size` in bytes; links have none, and no `sha256`.
    `url` is where a link leads, or where a preview is served."""

    id: UUID
    company_id: str
    project_id: str
    task_id: UUID | None
    run_id: UUID | None
    node_id: UUID | None
    node_key: str | None
    attempt: int | None
    kind: ArtifactKind
    name: str
    path: str | None
    content_type: str | None
    size: int | None
    sha256: str | None
    url: str | None
    version: int
    visibility: Visibility
    made_by: str | None  # an agent's id or role, or a person
    summary: str | None  # the beginning of a text, at most 500 characters
    preview_id: UUID | None
    created_at: AwareDatetime


class ListArtifacts(PageRequest[Page[Artifact]], owner="publisher", entity="artifact", verb="list"):
    """The newest first. `latest` leaves out versions that newer ones have followed."""

    project: Slug | None = None
    task_id: UUID | None = None
    run_id: UUID | None = None
    node_id: UUID | None = None
    node_ids: list[UUID] | None = Field(default=None, max_length=200)
    kind: ArtifactKind | None = None
    content_type: str | None = None
    name_contains: str | None = None
    visibility: Visibility | None = None
    made_from: AwareDatetime | None = None
    made_to: AwareDatetime | None = None
    latest: bool = False


class ArtifactCounts(Value):
    total: int
    by_kind: dict[ArtifactKind, int]


class CountArtifacts(Request[ArtifactCounts], owner="publisher", entity="artifact", verb="count"):
    run_id: UUID


class ArtifactDetail(Artifact):
    """`content` is the text, when it is one of at most 64 KiB; `ref` is where the bytes lie."""

    content: str | None
    ref: BlobRef | None


class GetArtifact(Request[ArtifactDetail], owner="publisher", entity="artifact", verb="get"):
    artifact_id: UUID


class AddArtifact(Request[Artifact], owner="publisher", entity="artifact", verb="add", patience=8.0):
    """What a person delivers to a task: a stored file, or a link (`url`). The gateway has stored the bytes."""

    command_id: UUID
    task_id: UUID
    name: Title
    ref: BlobRef | None = None
    url: str | None = None
    visibility: Visibility = Visibility.PRIVATE
    by: Name | None = None


class SetVisibility(Request[Artifact], owner="publisher", entity="artifact", verb="set_visibility"):
    command_id: UUID
    artifact_id: UUID
    visibility: Visibility


class ArtifactGone(Value):
    removed: Artifact


class RemoveArtifact(Request[ArtifactGone], owner="publisher", entity="artifact", verb="remove"):
    """Refused with `illegal_state` while it is pinned, shared, or the file of a preview."""

    command_id: UUID
    artifact_id: UUID
    by: Name | None = None


class Delivered(Value):
    """What an attempt has delivered so far; artifacts once it completes."""

    files: dict[str, int]  # path -> bytes
    kinds: dict[str, ArtifactKind]  # of the files, by path
    links: list[str]
    preview: str | None  # the entry of the preview that it asked for
    preview_flaw: str | None = None  # why these files could not be published as one


class GetDelivered(Request[Delivered], owner="publisher", entity="artifact", verb="delivered"):
    """Asked by who checks whether what a node owes is there."""

    node_id: UUID
    attempt: int


class WriteFileArguments(Strict):
    path: Annotated[FilePath, Field(description="Where in the deliverable, like report.md or site/index.html")]
    content: Annotated[str, Field(max_length=LARGEST_WRITTEN, description="The whole text of the file")]


class WriteFile(
    UseTool,
    owner="publisher",
    tool="write_file",
    patience=QUICK,
    description="Write a text file of your deliverable. The same path again replaces it.",
):
    arguments: WriteFileArguments


class PublishPreviewArguments(Strict):
    entry: Annotated[FilePath, Field(description="The page that opens first; its folder is the site")] = "index.html"


class PublishPreviewTool(
    UseTool,
    owner="publisher",
    tool="publish_preview",
    patience=QUICK,
    description="Publish the files you wrote as a website; its address is made when your work is accepted.",
):
    arguments: PublishPreviewArguments


class AddLinkArguments(Strict):
    url: Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=2_000)]
    title: Title


class AddLink(
    UseTool,
    owner="publisher",
    tool="add_link",
    patience=QUICK,
    description="Deliver the address of something that lies elsewhere.",
):
    arguments: AddLinkArguments


class ArtifactFact(Event):
    artifact_id: UUID
    story_of: UUID  # the run, or the task it was delivered to
    task_id: UUID | None = None
    run_id: UUID | None = None
    node_id: UUID | None = None
    name: str
    artifact_kind: ArtifactKind


class ArtifactCreated(ArtifactFact, owner="publisher", entity="artifact", verb="created", story="story_of"):
    version: int
    size: int | None
    content_type: str | None


class ArtifactRemoved(ArtifactFact, owner="publisher", entity="artifact", verb="removed", story="story_of"):
    reason: Text
    by: str | None = None
