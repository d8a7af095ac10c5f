"""Runs the feedback service as a process of its own: python -m services.feedback."""

from chassis.service import run
from services.feedback.app import build
from services.feedback.settings import FeedbackSettings

run("feedback", FeedbackSettings, build)
