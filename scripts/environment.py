"""Every variable that something of ours reads: the settings classes, and what runs before any service."""

from __future__ import annotations

from chassis.llm.settings import LlmSettings
from chassis.settings import EnvironmentSettings
from services.executor.settings import ExecutorSettings
from services.feedback.settings import FeedbackSettings
from services.gateway.settings import GatewaySettings
from services.planner.settings import PlannerSettings
from services.publisher.settings import PublisherSettings
from services.rag.settings import RagSettings

SETTINGS: tuple[type[EnvironmentSettings], ...] = (
    *(GatewaySettings, PlannerSettings, ExecutorSettings, FeedbackSettings, PublisherSettings, RagSettings),
    LlmSettings,
)

#: read by the supervisor, the command line and the setup
LOCAL = frozenset({"FLUIDCREW_HOME", "FLUIDCREW_URL", "FLUIDCREW_COMPANY", "RUNS_ROOT", "NATS_REPLICAS"})


def variables() -> frozenset[str]:
    """Names without <SERVICE>_ overrides and _FILE forms, which every one of them has."""
    return LOCAL.union(*(settings.variables().values() for settings in SETTINGS))
