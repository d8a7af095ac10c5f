-- Finished runs go when they are old, and what only they had in the object store goes after them.
create index runs_by_age on runs (ended_at) where ended_at is not null;

create table discarded_blobs (
    key text primary key,
    discarded_at timestamptz not null default clock_timestamp()
);
