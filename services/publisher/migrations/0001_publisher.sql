-- Bytes in the object store under `<company>/artifacts/<sha256>`: the only objects that publisher ever deletes.
create table objects (
    company_id text not null,
    sha256 text not null,
    size bigint not null,
    stored boolean not null default false,  -- a put has succeeded
    wanted_at timestamptz not null default clock_timestamp(), -- when somebody last was about to need them
    doomed_at timestamptz,                  -- the sweeper deletes them: who wants them now waits until they are gone
    primary key (company_id, sha256),
    constraint a_size_is_not_negative check (size >= 0)
);
create index objects_by_age on objects (wanted_at);

-- What an attempt has delivered through tools, until it completes.
create table staged (
    node_id uuid not null,
    attempt int not null,
    kind text not null,
    slot text not null,                     -- path of a file, address of a link; a preview has one for all
    company_id text not null,
    run_id uuid not null,
    name text not null,                     -- path of a file, title of a link, entry of a preview
    content_type text,
    sha256 text,
    size bigint,
    summary text,
    effect int not null,                    -- the tool's use that said so: of two the later one counts
    staged_at timestamptz not null default clock_timestamp(),
    primary key (node_id, attempt, kind, slot),
    constraint what_is_staged_is_a_file_link_or_preview check (kind in ('file', 'link', 'preview')),
    constraint only_files_have_bytes check ((kind = 'file') = (sha256 is not null) and (sha256 is null) = (size is null))
);
create index staged_by_age on staged (staged_at);
create index staged_objects on staged (company_id, sha256) where sha256 is not null;

-- One per task; a run without a task has one under its own id.
create table sites (
    company_id text not null,
    task_id uuid not null,
    project_id text not null,
    label text not null,                    -- its host, which nobody can guess
    version int not null default 0,         -- the last number that was given
    latest int,
    approved int,
    revision bigint not null default 1,     -- counts what those who serve it must notice
    created_at timestamptz not null default clock_timestamp(),
    primary key (company_id, task_id),
    constraint a_host_is_of_one_site unique (label),
    constraint a_host_is_32_characters check (label ~ '^[a-z2-7]{32}$')
);

create table previews (
    id uuid primary key,
    company_id text not null,
    task_id uuid not null,
    version int not null,
    project_id text not null,
    run_id uuid,
    node_id uuid,
    attempt int,
    state text not null default 'received',
    error text,
    source text not null,
    zip_sha256 text,                        -- the bytes that were sent
    zip_size bigint,
    tree jsonb,                             -- of files an attempt wrote: path -> [sha256, size]
    wanted_entry text,                      -- as it was asked for
    entry text not null,
    files int,
    size bigint,                            -- bytes of all files
    visibility text not null,
    made_by text,
    created_at timestamptz not null default clock_timestamp(),
    ready_at timestamptz,
    constraint a_version_is_one_preview unique (company_id, task_id, version),
    constraint a_version_belongs_to_a_site foreign key (company_id, task_id) references sites,
    constraint a_preview_is_received_publishing_ready_or_failed
        check (state in ('received', 'publishing', 'ready', 'failed')),
    constraint what_failed_says_why check ((error is not null) = (state = 'failed')),
    constraint what_is_ready_is_counted
        check ((ready_at is not null) = (state = 'ready') and (state <> 'ready' or (files > 0 and size is not null))),
    constraint a_preview_is_of_a_zip_or_of_files
        check (source = 'zip' and zip_sha256 is not null and zip_size is not null and tree is null
               or source = 'files' and zip_sha256 is null and zip_size is null and tree is not null),
    constraint a_preview_is_private_or_public check (visibility in ('private', 'public'))
);
create unique index one_preview_per_attempt on previews (node_id, attempt) where node_id is not null;
create index previews_of_a_run on previews (run_id) where run_id is not null;
create index previews_newest on previews (company_id, created_at desc);
create index previews_zips on previews (company_id, zip_sha256) where zip_sha256 is not null;
create index previews_unpublished on previews (created_at) where state in ('received', 'publishing');

-- What a ready version consists of: the row is the publication.
create table manifests (
    preview_id uuid primary key references previews on delete cascade,
    company_id text not null,
    files jsonb not null,                   -- path -> [sha256, size]
    objects text[] not null                 -- every sha256 in it
);
create index manifests_objects on manifests using gin (objects);

create table artifacts (
    id uuid primary key,
    company_id text not null,
    project_id text not null,
    task_id uuid,
    run_id uuid,
    node_id uuid,
    node_key text,
    attempt int,
    producer text not null,                 -- who delivers under these names: a node of a task's plan, or the people of a task
    slot text not null,                     -- what the versions are versions of
    version int not null,
    kind text not null,
    name text not null,
    path text,
    content_type text,
    size bigint,
    sha256 text,
    url text,
    visibility text not null,
    made_by text,
    summary text,
    preview_id uuid references previews,
    created_at timestamptz not null default clock_timestamp(),
    constraint a_version_is_one_artifact unique (company_id, producer, slot, version),
    constraint an_artifact_is_of_a_known_kind check (kind in ('preview', 'document', 'file', 'link', 'image')),
    constraint an_artifact_is_private_or_public check (visibility in ('private', 'public')),
    constraint bytes_have_a_size check ((sha256 is null) = (size is null)),
    constraint a_link_leads_somewhere check (kind <> 'link' or (url is not null and sha256 is null)),
    constraint a_preview_is_one check ((kind = 'preview') = (preview_id is not null)),
    constraint an_artifact_is_made_in_a_run_or_for_a_task check (coalesce(run_id, task_id) is not null)
);
create unique index one_artifact_per_attempt_and_slot on artifacts (node_id, attempt, slot) where node_id is not null;
create index artifacts_of_a_run on artifacts (run_id) where run_id is not null;
create index artifacts_of_a_task on artifacts (task_id) where task_id is not null;
create index artifacts_newest on artifacts (company_id, created_at desc);
create index artifacts_objects on artifacts (company_id, sha256) where sha256 is not null;
create index artifacts_by_version on artifacts (version) where version > 1;
create index artifacts_of_a_preview on artifacts (preview_id) where preview_id is not null;

-- Links that need no key. A repeated order is given another secret for the same share: none is kept as it is.
create table shares (
    id uuid primary key,
    company_id text not null,
    secrets text[] not null,                -- sha256 of each
    preview_id uuid references previews on delete cascade,
    artifact_id uuid references artifacts on delete cascade,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    made_by text,
    created_at timestamptz not null default clock_timestamp(),
    constraint a_share_is_of_one_thing check (num_nonnulls(preview_id, artifact_id) = 1)
);
create index shares_secrets on shares using gin (secrets);
create index shares_of_a_preview on shares (preview_id) where preview_id is not null;
create index shares_of_an_artifact on shares (artifact_id) where artifact_id is not null;

-- What was removed, and why: written, never changed.
create table removals (
    id bigint generated always as identity primary key,
    company_id text not null,
    what text not null,
    what_id text not null,
    task_id uuid,
    version int,
    size bigint,
    why text not null,
    by text,
    at timestamptz not null default clock_timestamp(),
    constraint a_removal_is_of_a_preview_artifact_or_object check (what in ('preview', 'artifact', 'object'))
);
create index removals_newest on removals (company_id, id desc);
create index removals_of_a_task on removals (task_id) where task_id is not null;

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'what was removed stays on record';
end $$;
create trigger removals_are_only_added before update or delete on removals
    for each row execute function refuse_change();
