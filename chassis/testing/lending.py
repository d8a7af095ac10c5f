"""Databases that tests give back, emptied and lent to the next test: to copy the template each time writes 28 MB."""

from __future__ import annotations

import uuid
from dataclasses import replace

import asyncpg

from chassis import roles
from chassis.testing.emptying import emptied
from chassis.testing.servers import Database, create_database, drop_database


class Databases:
    """Those of one worker. A test that altered what the migrations made leaves a database that nobody gets again."""

    def __init__(self, admin_url: str, template: str) -> None:
        self._admin_url = admin_url
        self._template = template
        self._empty: list[Database] = []

    async def lend(self) -> Database:
        return self._empty.pop() if self._empty else await create_database(self._admin_url, self._template)

    async def take_back(self, database: Database) -> None:
        renamed = await self._shut_out(database)
        if await emptied(renamed.url):
            self._empty.append(renamed)
        else:
            await drop_database(self._admin_url, renamed)

    async def drop(self) -> None:
        while self._empty:
            await drop_database(self._admin_url, self._empty.pop())

    async def _shut_out(self, database: Database) -> Database:
        """Under another name: whoever the test left running does not find it again."""
        name = f"test_{uuid.uuid4().hex[:16]}"
        admin = await asyncpg.connect(self._admin_url)
        try:
            ended = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1"
            await admin.fetch(ended, database.name)
            await admin.execute(f'alter database "{database.name}" rename to "{name}"')
        finally:
            await admin.close()
        urls = {service: roles.database_url(url, name) for service, url in database.services.items()}
        return replace(database, name=name, url=roles.database_url(database.url, name), services=urls)
