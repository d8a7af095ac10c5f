"""What a template has beside the migrations, so that a database made of it can become as it was."""

from __future__ import annotations

import asyncpg

WATCH = """
create schema testing;
create table testing.altered (command text not null);
create function testing.note() returns event_trigger language plpgsql security definer as
    $$ begin insert into testing.altered values (tg_tag); end $$;

-- the rows that migrations wrote, each table as `schema.table`
do $$
declare
    filled record;
begin
    for filled in
        select n.nspname as owner, c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.oid >= 16384 and c.relkind = 'r' and n.nspname <> 'testing' and pg_relation_size(c.oid) > 0
    loop
        execute format(
            'create table testing.%I as table %I.%I',
            filled.owner || '.' || filled.name, filled.owner, filled.name);
    end loop;
end $$;

-- false when a test altered more than rows
create function testing.empty() returns boolean language plpgsql as $body$
declare
    written text;
    filled record;
begin
    if exists (select from testing.altered) then
        return false;
    end if;
    set local session_replication_role = replica; -- no trigger, no foreign key
    select string_agg(format('%I.%I', n.nspname, c.relname), ', ') into written
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.oid >= 16384 and c.relkind = 'r' and n.nspname <> 'testing' and pg_relation_size(c.oid) > 0
        and to_regclass(format('testing.%I', n.nspname || '.' || c.relname)) is null;
    if written is not null then
        execute 'truncate ' || written || ' cascade';
    end if;
    for filled in
        select relname as copy, split_part(relname, '.', 1) as owner, split_part(relname, '.', 2) as name
        from pg_class where relnamespace = 'testing'::regnamespace and relname like '%.%' and relkind = 'r'
    loop
        execute format('delete from %I.%I', filled.owner, filled.name);
        execute format(
            'insert into %I.%I overriding system value table testing.%I', filled.owner, filled.name, filled.copy);
    end loop;
    perform setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false)
    from pg_sequences where last_value is not null;
    return true;
end $body$;

create event trigger a_test_altered_more_than_rows on ddl_command_end execute function testing.note();
"""


async def watch(admin: asyncpg.Connection) -> None:
    """Only a superuser may. Elsewhere no database is used twice."""
    if await admin.fetchval("select rolsuper from pg_roles where rolname = current_user"):
        await admin.execute(WATCH)


async def emptied(url: str) -> bool:
    """Whether it is as the migrations left it, now."""
    admin = await asyncpg.connect(url)
    try:
        watched = await admin.fetchval("select to_regprocedure('testing.empty()') is not null")
        return bool(watched and await admin.fetchval("select testing.empty()"))
    finally:
        await admin.close()
