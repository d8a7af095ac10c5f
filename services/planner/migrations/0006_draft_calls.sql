-- What a draft's calls to its model have come to, until the draft has ended: what was paid for is not paid for again.
create table draft_calls (
    id bigint generated always as identity primary key,
    job_id uuid not null references jobs (id) on delete cascade,
    call jsonb not null
);
create index draft_calls_of_a_job on draft_calls (job_id);
