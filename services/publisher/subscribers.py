"""What publisher answers and listens to: one line each."""

from __future__ import annotations

from chassis.bus import Bus
from contracts import artifacts as a
from contracts import previews as p
from contracts.planner import TaskWasDeleted
from contracts.run_facts import NodeCompleted, NodeReused
from contracts.streams import PUBLISHER_RESULTS, PUBLISHER_TASKS
from services.publisher.handlers.artifacts import Artifacts
from services.publisher.handlers.collecting import Collecting
from services.publisher.handlers.deletions import Deletions
from services.publisher.handlers.previews import Previews
from services.publisher.handlers.shares import Shares
from services.publisher.handlers.sweeping import Sweeping
from services.publisher.handlers.tools import Tools


def subscribe(
    bus: Bus,
    artifacts: Artifacts,
    previews: Previews,
    shares: Shares,
    sweeping: Sweeping,
    tools: Tools,
    collecting: Collecting,
    deletions: Deletions,
) -> None:
    bus.serve(a.ListArtifacts, artifacts.page)
    bus.serve(a.CountArtifacts, artifacts.count)
    bus.serve(a.GetArtifact, artifacts.artifact)
    bus.serve(a.GetDelivered, artifacts.delivered)
    bus.serve(a.AddArtifact, artifacts.add)
    bus.serve(a.SetVisibility, artifacts.set_visibility)
    bus.serve(a.RemoveArtifact, artifacts.remove)
    bus.serve(p.SubmitPreview, previews.submit)
    bus.serve(p.ListPreviews, previews.page)
    bus.serve(p.GetPreview, previews.preview)
    bus.serve(p.PinPreview, previews.pin)
    bus.serve(p.UnpinPreview, previews.unpin)
    bus.serve(p.ComparePreviews, previews.compare)
    bus.serve(p.CreateShare, shares.create)
    bus.serve(p.ListShares, shares.page)
    bus.serve(p.RevokeShare, shares.revoke)
    bus.serve(p.Sweep, sweeping.sweep)
    bus.serve(p.ListRemovals, sweeping.removals)
    bus.serve(a.WriteFile, tools.write_file)
    bus.serve(a.PublishPreviewTool, tools.publish_preview)
    bus.serve(a.AddLink, tools.add_link)
    bus.on(PUBLISHER_RESULTS, {NodeCompleted: collecting.on_completed, NodeReused: collecting.on_reused})
    bus.on(PUBLISHER_TASKS, {TaskWasDeleted: deletions.on_deleted})
