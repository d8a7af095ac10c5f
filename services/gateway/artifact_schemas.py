"""HTTP bodies of artifacts, previews and shared links, where they differ from the contracts."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from contracts.artifacts import Artifact, Visibility
from contracts.plan import ArtifactKind, FilePath, Strict, Title
from contracts.previews import Preview, Removal, Share
from services.gateway.domain.places import place
from services.gateway.paging import PageOf

Days = Annotated[float, Field(ge=1 / 1440, le=365)]


class LinkIn(Strict):
    url: str = Field(min_length=1, max_length=2_000, examples=["https://example.com/board"])
    name: Title | None = Field(default=None, description="the address, when it is left out")
    visibility: Visibility = Visibility.PRIVATE


class FileIn(Strict):
    """The fields beside a file."""

    name: Title | None = Field(default=None, description="the file's own, when it is left out")
    visibility: Visibility = Visibility.PRIVATE


class PreviewIn(Strict):
    """Of a ZIP that is an artifact already."""

    artifact_id: UUID
    entry: FilePath | None = Field(default=None, description="the page that opens first; index.html otherwise")


class EntryIn(Strict):
    """The fields beside a ZIP."""

    name: Title | None = None
    entry: FilePath | None = Field(default=None, description="the page that opens first; index.html otherwise")


class ArtifactPatch(Strict):
    visibility: Visibility


class ShareIn(Strict):
    expires_in_days: Days = Field(default=7, description="until the link answers no more")


class SweepIn(Strict):
    """With `dry_run` it only says what it would remove."""

    dry_run: bool = Field(default=True, strict=True)
    task_id: UUID | None = Field(default=None, description="of this task only")


class ArtifactOut(Artifact):
    """`type` is its kind, `preview` how its text begins, `content` the text where one is asked for and it is small: as Crew
    Orchestrator has them. `download` is where its bytes are; links, and previews made of an agent's files, have none."""

    type: ArtifactKind
    content: str | None = None
    preview: str | None
    download: str | None


class ArtifactPage(PageOf[ArtifactOut]): ...


class PreviewPage(PageOf[Preview]): ...


class SharePage(PageOf[Share]): ...


class RemovalPage(PageOf[Removal]): ...


def artifact_out(artifact: Artifact, **more: Any) -> ArtifactOut:
    """Of an ArtifactDetail with its content."""
    has_bytes = artifact.sha256 is not None
    path = place(artifact.company_id, f"/artifacts/{artifact.id}/download") if has_bytes else None
    own = {name: value for name, value in artifact if name in ArtifactOut.model_fields}
    return ArtifactOut(**own | more, type=artifact.kind, preview=artifact.summary, download=path)
