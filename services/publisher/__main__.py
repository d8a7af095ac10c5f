"""Runs the publisher as a process of its own: python -m services.publisher."""

from chassis.service import run
from services.publisher.app import build
from services.publisher.settings import PublisherSettings

run("publisher", PublisherSettings, build)
