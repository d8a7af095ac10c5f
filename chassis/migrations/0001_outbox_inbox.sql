-- Messages that were committed, until they are safely on the bus and past every consumer.
create table outbox (
    id bigint generated always as identity primary key,
    message_id uuid not null,
    stream text not null,
    subject text not null,
    story text not null,
    sequence bigint not null,               -- ce-sequence: counts the facts of a story; 0 for commands and dead letters
    headers jsonb not null,
    body bytea not null,
    created_at timestamptz not null default clock_timestamp(),
    published_at timestamptz,
    stream_sequence bigint,
    constraint a_published_row_knows_its_place check ((published_at is null) = (stream_sequence is null))
) with (autovacuum_vacuum_scale_factor = 0.05);
create index outbox_unpublished on outbox (id) where published_at is null;
create index outbox_published on outbox (published_at) where published_at is not null;
create index outbox_of_a_story on outbox (story, sequence) where sequence > 0;

-- The last ce-sequence of each story this service tells.
create table stories (
    story text primary key,
    sequence bigint not null
) with (fillfactor = 70);

-- Which broker the published rows were last compared with.
create table verified_streams (
    stream text primary key,
    created timestamptz not null,
    server_id text not null,
    verified_at timestamptz not null default clock_timestamp()
);

-- What each consumer has handled: an effect happens once.
create table inbox (
    consumer text not null,
    message_id uuid not null,
    handled_at timestamptz not null default clock_timestamp(),
    primary key (consumer, message_id)
);

-- Failed attempts of a message; counted here because a broker's count does not survive its crash.
create table inbox_attempts (
    consumer text not null,
    message_id uuid not null,
    attempts int not null,
    last_error text not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (consumer, message_id)
);

create table dead_letters (
    id uuid primary key,
    consumer text not null,
    message_id uuid,
    subject text not null,
    headers jsonb not null,
    body bytea not null,
    reason text not null,
    attempts int not null,
    created_at timestamptz not null default clock_timestamp(),
    replayed_at timestamptz
);
create index dead_letters_newest on dead_letters (created_at desc);

-- Orders that were answered: the same order again gets the same answer.
create table commands (
    command_id uuid primary key,
    request_hash text not null,
    answer jsonb not null,
    created_at timestamptz not null default clock_timestamp()
);
