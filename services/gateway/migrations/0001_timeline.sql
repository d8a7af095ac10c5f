-- How far each company's feed has come. The epoch changes only when a feed is restored or rebuilt.
create table feeds (
    company_id text primary key,
    epoch text not null default left(gen_random_uuid()::text, 8),
    position bigint not null default 0,
    constraint an_epoch_is_eight_hex_digits check (epoch ~ '^[0-9a-f]{8}$')
) with (fillfactor = 70);

-- Every fact of every service, in the order in which its company's watchers see it; positions have no gap.
create table timeline (
    company_id text not null references feeds,
    position bigint not null,
    message_id uuid not null constraint a_fact_is_told_once unique,
    owner text not null,
    story text not null,
    sequence bigint not null,
    level text not null,
    run_id uuid,
    node_id uuid,
    task_id uuid,
    request_id text not null,
    message jsonb not null,
    at timestamptz not null,
    primary key (company_id, position)
);
create index timeline_of_a_run on timeline (company_id, run_id, position) where run_id is not null;
create index timeline_of_a_level on timeline (company_id, level, position);
create index timeline_of_a_day on timeline (company_id, at);
create index timeline_of_a_request on timeline (company_id, request_id) where request_id <> '';

-- The sequence up to which each owner's story has been told.
create table told_stories (
    owner text not null,
    story text not null,
    sequence bigint not null,
    primary key (owner, story)
) with (fillfactor = 70);

-- Facts that came before their predecessors, until these come.
create table parked_facts (
    owner text not null,
    story text not null,
    sequence bigint not null,
    message_id uuid not null,
    company_id text not null,
    level text not null,
    run_id uuid,
    node_id uuid,
    task_id uuid,
    request_id text not null,
    message jsonb not null,
    at timestamptz not null,
    parked_at timestamptz not null default clock_timestamp(),
    asked_at timestamptz,                   -- when the owner was last asked for what is missing before it
    primary key (owner, story, sequence)
);
create index parked_facts_oldest on parked_facts (parked_at);
