-- Runs, their nodes and attempts; who executes them; and what people asked of them.

-- One row per incarnation of an executor process. Only the database's clock decides who is alive.
create table workers (
    id uuid primary key,
    host text not null,
    pid int not null,
    started_at timestamptz not null default clock_timestamp(),
    lease_until timestamptz not null,
    dead boolean not null default false,
    turn bigint not null default 0             -- its latest transaction: what became of a commit that was cut off
) with (fillfactor = 50);
create index workers_alive on workers (lease_until) where not dead;

create table runs (
    id uuid primary key,
    company_id text not null,
    project_id text not null,
    task_id uuid,
    plan_id uuid,
    plan_version int,
    title text not null,
    status text not null default 'queued',
    wanted text not null default 'run',        -- what people asked for; written by orders, never by the owner
    pause_reasons text[] not null default '{}',
    gate text not null,
    dry_run boolean not null,
    meta jsonb not null,
    timeout interval,                          -- how long it may be running
    time_left interval,                        -- of the timeout, while the clock stands: queued and paused
    deadline_at timestamptz,                   -- while it ticks
    error text,
    context jsonb not null,                    -- who asked, in which story; travels with its facts
    request_id text not null default '',
    owner uuid,                                -- the worker that may move it and its nodes
    epoch bigint not null default 0,           -- counts owners
    wake_at timestamptz,                       -- when somebody must look at it; null: only an order can wake it
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    ended_at timestamptz,
    constraint run_status_is_known
        check (status in ('queued', 'running', 'paused', 'completed', 'failed', 'canceled')),
    constraint run_wish_is_known check (wanted in ('run', 'pause', 'cancel')),
    constraint run_ended_when_final
        check ((ended_at is not null) = (status in ('completed', 'failed', 'canceled'))),
    constraint paused_run_has_a_reason check (status <> 'paused' or cardinality(pause_reasons) > 0),
    constraint clock_ticks_only_while_running check (deadline_at is null or status = 'running'),
    constraint failed_run_says_why check (status <> 'failed' or error is not null)
) with (fillfactor = 60);
create unique index one_active_run_per_task on runs (company_id, task_id)
    where task_id is not null and status in ('queued', 'running', 'paused');
create index runs_newest on runs (company_id, created_at desc, id);
create index runs_of_a_task on runs (company_id, task_id) where task_id is not null;
create index runs_owned on runs (owner) where owner is not null;
create index runs_to_claim on runs (wake_at) where owner is null and wake_at is not null;

create table nodes (
    id uuid primary key,
    run_id uuid not null references runs (id) on delete cascade,
    company_id text not null,
    key text not null,                         -- the node's id in the plan
    position int not null,
    title text not null,
    role text,
    spec jsonb not null,                       -- contracts.executor.RunNode
    deps text[] not null,
    status text not null default 'queued',
    attempt int not null default 0,            -- number of the latest one
    failures int not null default 0,
    losses int not null default 0,
    due_at timestamptz,                        -- a failed attempt is repeated then
    output text,                               -- all of it up to 64 KiB, else its opening
    output_ref jsonb,                          -- all of it when it is larger
    output_size bigint,
    checksum text,
    error text,
    model text,
    prompt_tokens bigint not null default 0,   -- of all attempts, as the cost
    completion_tokens bigint not null default 0,
    requests int not null default 0,
    cost_usd numeric default 0,                -- null: a price is unknown
    duration_ms int,                           -- of the latest attempt's model call
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    ended_at timestamptz,
    constraint node_key_is_unique_in_its_run unique (run_id, key),
    constraint node_status_is_known check (status in
        ('queued', 'running', 'reviewing', 'paused', 'completed', 'failed', 'skipped', 'canceled')),
    constraint node_ended_when_final
        check ((ended_at is not null) = (status in ('completed', 'failed', 'skipped', 'canceled'))),
    constraint failed_node_says_why check (status <> 'failed' or error is not null),
    constraint node_counts_are_sound check (attempt >= 0 and failures >= 0 and losses >= 0)
) with (fillfactor = 60);

-- Written before a model is called: an attempt that nobody ended was lost, and may have cost money.
-- No foreign keys here and below: the same transaction moves the node, and a check per row would double its cost.
create table attempts (
    node_id uuid not null,
    number int not null,
    run_id uuid not null,
    company_id text not null,
    worker_id uuid not null,
    status text not null default 'running',
    error text,
    model text,
    prompt_tokens bigint not null default 0,
    completion_tokens bigint not null default 0,
    requests int not null default 0,
    cost_usd numeric default 0,
    duration_ms int,
    started_at timestamptz not null,
    ended_at timestamptz,
    primary key (node_id, number),
    constraint attempt_status_is_known check (status in ('running', 'succeeded', 'failed', 'lost', 'canceled')),
    constraint attempt_ended_unless_running check ((ended_at is null) = (status = 'running'))
) with (fillfactor = 70);
create index attempts_of_a_run on attempts (run_id);

create table sidecars (
    id bigint generated always as identity primary key,
    run_id uuid not null,
    node_id uuid not null,
    attempt int not null,
    document jsonb not null,                   -- LLM sidecar 1.0
    created_at timestamptz not null default clock_timestamp()
);
create index sidecars_of_a_node on sidecars (node_id, attempt);

-- Orders that wait for the run's owner. Whoever writes one holds the run's row and sets its wake_at.
create table signals (
    id bigint generated always as identity primary key,
    run_id uuid not null references runs (id) on delete cascade,
    kind text not null,
    payload jsonb not null default '{}',
    created_at timestamptz not null default clock_timestamp(),
    constraint signal_kind_is_known check (kind in ('pause', 'resume', 'cancel', 'skip_failed_and_resume'))
);
create index signals_of_a_run on signals (run_id, id);

-- The law of services/executor/domain/status.py once more: an illegal move cannot be stored, whoever writes it.
-- The law is in the WHEN clauses, so that a legal move costs no function call.
create function refuse_illegal_move() returns trigger language plpgsql as $$
begin
    raise exception 'a % cannot go from % to %', tg_argv[0], old.status, new.status using errcode = 'check_violation';
end
$$;

create trigger a_run_moves_legally before update of status on runs for each row
when (old.status <> new.status and old.status || ' ' || new.status <> all (array[
    'queued running', 'queued paused', 'queued failed', 'queued canceled',
    'running paused', 'running completed', 'running failed', 'running canceled',
    'paused running', 'paused completed', 'paused failed', 'paused canceled',
    'completed running',
    'failed running', 'failed completed'
]))
execute function refuse_illegal_move('run');

create trigger a_node_moves_legally before update of status on nodes for each row
when (old.status <> new.status and old.status || ' ' || new.status <> all (array[
    'queued running', 'queued paused', 'queued skipped', 'queued canceled',
    'running queued', 'running reviewing', 'running paused', 'running completed', 'running failed', 'running skipped',
    'running canceled',
    'reviewing queued', 'reviewing paused', 'reviewing completed', 'reviewing failed', 'reviewing canceled',
    'paused queued', 'paused completed', 'paused skipped', 'paused canceled',
    'completed queued', 'completed paused',
    'failed queued', 'failed skipped'
]))
execute function refuse_illegal_move('node');
