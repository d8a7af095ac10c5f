"""Celery 5 on Redis."""
