-- Budgets: ceilings for what models may cost. Every call reserves the most that it can cost, and settles afterwards.

create table budgets (
    id uuid primary key default gen_random_uuid(),     -- a budget that is set again after its removal is another one
    company_id text not null,
    scope text not null,
    scope_id text not null,
    limit_usd numeric not null,
    spent_usd numeric not null default 0,
    reserved_usd numeric not null default 0,
    exhausted_at timestamptz,                          -- a call was refused since the limit was set: people have been told
    set_by text,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    constraint one_budget_per_scope unique (company_id, scope, scope_id),
    constraint budget_scope_is_known check (scope in ('company', 'project', 'task', 'agent')),
    constraint budget_sums_are_sound check (limit_usd >= 0 and spent_usd >= 0 and reserved_usd >= 0)
) with (fillfactor = 50);

-- The law once more: nothing is reserved beyond the limit, whoever writes it. No check constraint, because a limit may
-- be lowered below what is spent, and what a call really came to is booked whatever it is.
create function refuse_overdraft() returns trigger language plpgsql as $$
begin
    raise exception 'the budget of % % does not bear it', new.scope, new.scope_id using errcode = 'check_violation';
end
$$;

create trigger a_reservation_fits_its_budget before update of reserved_usd on budgets for each row
when (new.reserved_usd > old.reserved_usd and new.spent_usd + new.reserved_usd > new.limit_usd)
execute function refuse_overdraft();

-- What a call that is under way may cost, in each of the budgets that bear it. Settling one deletes it.
create table reservations (
    id uuid primary key,
    company_id text not null,
    budgets uuid[] not null,                           -- in the order in which they are locked
    amount_usd numeric not null,
    worker_id uuid,                                    -- of a node's call: when it is dead, nobody will settle
    node_id uuid,
    attempt int,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz not null,                   -- from then on the call counts as lost
    constraint reservation_reserves_something check (amount_usd > 0 and cardinality(budgets) > 0)
);

-- Nodes that are paused because a budget does not bear their next call.
create table budget_waits (
    node_id uuid primary key references nodes (id) on delete cascade,
    run_id uuid not null,
    company_id text not null,
    scope text not null,
    scope_id text not null,
    need_usd numeric,                                  -- null: no price is known, so no room is enough
    model text not null,
    note text not null default '',
    since timestamptz not null default clock_timestamp()
);
create index budget_waits_of_a_budget on budget_waits (company_id, scope, scope_id);

alter table signals drop constraint signal_kind_is_known;
alter table signals add constraint signal_kind_is_known check (kind in
    ('pause', 'resume', 'cancel', 'skip_failed_and_resume', 'node_pause', 'node_resume', 'node_skip', 'node_override',
     'nodes_funded'));
