"""Runs the planner as a process of its own: python -m services.planner."""

from chassis.service import run
from services.planner.app import build
from services.planner.settings import PlannerSettings

run("planner", PlannerSettings, build)
