-- Long work that must survive its worker: claimed with a lease, fenced by its attempt.
create table jobs (
    id uuid primary key,
    company_id text not null,
    kind text not null,
    ref text not null,                      -- what it is about; one active job per kind and ref
    payload jsonb not null,
    context jsonb not null,
    state text not null default 'queued',
    attempt int not null default 0,
    due_at timestamptz not null default clock_timestamp(),
    worker uuid,
    lease_until timestamptz,
    result jsonb,
    error text,
    created_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    constraint a_job_is_queued_running_done_or_failed check (state in ('queued', 'running', 'done', 'failed')),
    constraint a_job_has_ended_iff_it_is_final check ((ended_at is not null) = (state in ('done', 'failed'))),
    constraint a_running_job_is_leased check ((lease_until is not null) = (state = 'running'))
);
create unique index one_active_job_per_ref on jobs (kind, ref) where state in ('queued', 'running');
create index jobs_due on jobs (kind, due_at) where state = 'queued';
create index jobs_leased on jobs (lease_until) where state = 'running';
