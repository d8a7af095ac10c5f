"""Runs rag as a process of its own: python -m services.rag."""

from chassis.service import run
from services.rag.app import build
from services.rag.settings import RagSettings

run("rag", RagSettings, build)
