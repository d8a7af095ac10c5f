create table companies (
    id text primary key,
    name text not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint a_company_id_is_a_slug check (id ~ '^[a-z0-9][a-z0-9-]{0,38}$')
);

create table projects (
    company_id text not null references companies,
    id text not null,
    name text not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (company_id, id),
    constraint a_project_id_is_a_slug check (id ~ '^[a-z0-9][a-z0-9-]{0,38}$')
);

insert into companies (id, name) values ('default', 'Default company');
insert into projects (company_id, id, name) values ('default', 'default', 'Default project');

create table tasks (
    id uuid primary key,
    company_id text not null,
    project_id text not null,
    title text not null,
    description text,
    status text not null default 'draft',
    archived boolean not null default false,
    ad_hoc boolean not null default false,
    gate text,
    run_id uuid,                            -- the latest run the executor accepted
    launch_run_id uuid,                     -- the run this task was created for, chosen before there is a plan
    job_id uuid,                            -- the latest job that drafts its plan
    cancel_requested boolean not null default false,
    dedupe_key text,                        -- request id of an ad-hoc run, for as long as that run is alive
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    deleted_at timestamptz,
    foreign key (company_id, project_id) references projects (company_id, id),
    constraint a_task_has_a_known_status check (status in ('draft', 'ready', 'running', 'paused', 'completed', 'failed')),
    constraint a_running_paused_or_completed_task_has_a_run
        check (run_id is not null or status not in ('running', 'paused', 'completed')),
    constraint a_gate_is_gate_observe_or_off check (gate in ('gate', 'observe', 'off')),
    constraint only_ad_hoc_tasks_have_a_dedupe_key check (dedupe_key is null or ad_hoc),
    constraint a_deleted_task_frees_its_request check (deleted_at is null or dedupe_key is null)
);
create unique index one_task_per_title on tasks (company_id, project_id, lower(title))
    where not ad_hoc and deleted_at is null;
create unique index one_living_run_per_request on tasks (company_id, dedupe_key) where dedupe_key is not null;
create index tasks_newest on tasks (company_id, created_at desc) where deleted_at is null;

create table plans (
    id uuid primary key,
    company_id text not null,
    task_id uuid not null references tasks,
    status text not null,
    version int not null,                   -- the current one
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    constraint one_plan_per_task unique (task_id),
    constraint a_plan_is_draft_ready_or_invalid check (status in ('draft', 'ready', 'invalid'))
);

create table plan_versions (
    plan_id uuid not null references plans,
    version int not null,
    company_id text not null,
    status text not null,
    graph jsonb,
    errors jsonb not null,
    origin text not null,                   -- supervisor, repaired, explicit or demo
    answer text,                            -- what the model said, when no plan could be made of it
    job_id uuid,                            -- the job that drafted it: a job leaves one version, however often it runs
    created_at timestamptz not null default clock_timestamp(),
    primary key (plan_id, version),
    constraint a_version_is_draft_ready_or_invalid check (status in ('draft', 'ready', 'invalid')),
    constraint a_version_without_a_graph_is_invalid check (graph is not null or status = 'invalid'),
    constraint an_invalid_version_says_why check (status <> 'invalid' or jsonb_array_length(errors) > 0)
);
create unique index one_version_per_job on plan_versions (job_id) where job_id is not null;

create table assignments (
    plan_id uuid not null references plans,
    node_id text not null,
    company_id text not null,
    role text,
    agent_id text,
    llm_backend text,
    llm_model text,
    params jsonb not null default '{}',
    updated_at timestamptz not null default clock_timestamp(),
    primary key (plan_id, node_id)
);

-- Runs that were asked for. Written before the executor is asked, so that an answer that got lost is found again.
create table task_runs (
    run_id uuid primary key,
    task_id uuid not null references tasks,
    company_id text not null,
    ordinal bigint not null generated always as identity,
    state text not null default 'asked',
    sequence bigint not null default 0,     -- ce-sequence of the newest fact taken in
    dry_run boolean not null default false,
    request jsonb,                          -- the StartRun as it was or will be sent; null when only facts told of the run
    asked_at timestamptz not null default clock_timestamp(),
    constraint a_run_has_a_known_state
        check (state in ('asked', 'refused', 'accepted', 'running', 'paused', 'completed', 'failed', 'canceled'))
);
create index runs_of_a_task on task_runs (task_id, ordinal desc);
