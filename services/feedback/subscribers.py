"""What feedback answers and listens to: one line each."""

from __future__ import annotations

from chassis.bus import Bus
from contracts import feedback
from contracts.run_facts import NodeReviewing
from contracts.streams import FEEDBACK_RESULTS
from services.feedback.handlers.giving import Giving
from services.feedback.handlers.policies import Policies
from services.feedback.handlers.reports import Reports
from services.feedback.handlers.reviewing import Reviewing


def subscribe(bus: Bus, giving: Giving, policies: Policies, reports: Reports, reviewing: Reviewing) -> None:
    bus.serve(feedback.GiveFeedback, giving.give)
    bus.serve(feedback.GetFeedback, giving.feedback)
    bus.serve(feedback.ListFeedbacks, giving.page)
    bus.serve(feedback.ListPolicies, policies.page)
    bus.serve(feedback.GetPolicy, policies.policy)
    bus.serve(feedback.SetPolicy, policies.set)
    bus.serve(feedback.RemovePolicy, policies.remove)
    bus.serve(feedback.GetQaReport, reports.of_run)
    bus.serve(feedback.GetQuality, reports.quality)
    bus.on(FEEDBACK_RESULTS, {NodeReviewing: reviewing.on_reviewing})
