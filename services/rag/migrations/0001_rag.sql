-- What a space's documents share: who may read them, in which language they are, by which model their vectors are made.
create table spaces (
    id uuid primary key,
    number int generated always as identity, -- its short name in indexes: `#17` in tsvectors
    company_id text not null,
    name text not null,
    scope text not null,
    scope_id text,                          -- a project's slug or an agent's id
    language text not null,
    provider text not null,                 -- provider, model and dimension of the vectors that are searched
    model text not null,
    dimension int not null,
    target int not null,                    -- characters of a chunk
    wanted jsonb,                           -- {language, embedder, chunking} that a job is changing to; null when nothing is under way
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    constraint a_space_has_a_number_of_its_own unique (number),
    constraint a_space_is_of_a_company_project_or_agent check (scope in ('company', 'project', 'agent')),
    constraint only_a_company_has_no_scope_id check ((scope = 'company') = (scope_id is null)),
    constraint a_language_is_known check (language in ('en', 'fr')),
    constraint a_dimension_can_be_stored check (dimension between 1 and 4000)
);
create unique index a_name_is_of_one_space on spaces (company_id, lower(name));

-- `key` is the principal as it is compared; `*` is everybody in the space's scope. Nobody is granted anything by no row.
create table grants (
    space_id uuid not null references spaces on delete cascade,
    ord int not null,
    principal text not null,
    key text not null,
    "right" text not null,
    deny boolean not null,
    primary key (space_id, ord),
    constraint a_right_is_to_read_or_write check ("right" in ('read', 'write'))
);

-- Title, tags and date are those of the version that is searched, or of the only one while none is.
create table documents (
    id uuid primary key,
    company_id text not null,
    space_id uuid not null references spaces,
    identity text not null,                 -- what makes the next one a new version: external id, or title
    external_id text,
    title text not null,
    tags text[] not null,
    dated date,
    version int not null,                   -- the newest
    searchable int,                         -- the one that search finds
    title_vector halfvec,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    constraint a_document_is_there_once unique (space_id, identity),
    constraint only_a_known_version_is_searched check (searchable is null or searchable between 1 and version)
);
create index documents_of_a_company on documents (company_id, created_at);
create index documents_of_a_space on documents (space_id, created_at);
create index documents_by_tag on documents using gin (tags);

create table versions (
    document_id uuid not null references documents on delete cascade,
    version int not null,
    company_id text not null,
    state text not null default 'received',
    error text,
    title text not null,
    tags text[] not null,
    dated date,
    name text,                              -- of the file, as it was sent
    content_type text not null,
    size bigint not null,
    sha256 text not null,                   -- of what was sent
    text_sha256 text,                       -- of the text that was read from it, which offsets refer to
    text_size bigint,
    title_vector halfvec,
    pages int,
    chunks int not null default 0,
    done int not null default 0,            -- chunks that are embedded
    language text not null,
    made_by text,
    created_at timestamptz not null default clock_timestamp(),
    ready_at timestamptz,
    primary key (document_id, version),
    constraint a_version_has_a_known_state
        check (state in ('received', 'parsing', 'embedding', 'ready', 'failed', 'needs_ocr')),
    constraint what_failed_says_why check ((error is not null) = (state in ('failed', 'needs_ocr'))),
    constraint what_is_ready_says_when check ((ready_at is not null) = (state = 'ready'))
);
create index versions_by_object on versions (company_id, sha256);
create index versions_by_text on versions (company_id, text_sha256) where text_sha256 is not null;

-- Chunks of a version that is not searched yet, as they will be: nobody but its job reads them.
create table building (
    document_id uuid not null,
    version int not null,
    ord int not null,
    chunk_id uuid not null,
    start int not null,
    stop int not null,
    page int,
    header text,
    body text not null,
    folded text not null,                   -- for the comparison of grams
    lexemes text[] not null,                -- stems, without those of the space
    terms int[] not null,                   -- the same hashed: places in `weights`
    weights sparsevec(16777216) not null,   -- what BM25 says of each term
    length int not null,                    -- in terms
    h halfvec,
    primary key (document_id, version, ord),
    foreign key (document_id, version) references versions on delete cascade,
    constraint a_chunk_is_not_empty check (start >= 0 and stop > start)
);

-- What is searched: rows of searchable versions only. Vectors and lexemes are narrow, because they are scanned; chunks are
-- read for the few that are shown.
create table chunks (
    id uuid primary key,
    company_id text not null,
    space int not null,
    document_id uuid not null,
    version int not null,
    ord int not null,
    start int not null,
    stop int not null,
    page int,
    header text,
    body text not null,
    folded text not null,
    terms int[] not null,
    length int not null,
    constraint a_place_in_a_document_has_one_chunk unique (document_id, ord)
);

create table lexemes (
    chunk_id uuid primary key,
    company_id text not null,
    space int not null,
    document_id uuid not null,
    ts tsvector not null,                   -- stems and the space
    weights sparsevec(16777216) not null
);
create index lexemes_by_stem on lexemes using gin (ts) with (fastupdate = off);

-- Partitioned, so that a large company's graph (HNSW, made by a job once it pays) is not searched for another's questions.
create table vectors (
    company_id text not null,
    chunk_id uuid not null,
    space int not null,
    document_id uuid not null,
    h halfvec not null,
    primary key (company_id, chunk_id)
) partition by hash (company_id);
create index vectors_of_a_space on vectors (space);

do $$
begin
    for part in 0..7 loop
        execute format('create table vectors_%s partition of vectors for values with (modulus 8, remainder %s)', part, part);
        -- one that has to be fetched from elsewhere costs more than its comparison
        execute format('alter table vectors_%s alter column h set storage plain', part);
    end loop;
end $$;

create table terms (
    space int not null,
    term int not null,
    n int not null,                         -- chunks that have it
    primary key (space, term)
);
create table space_stats (
    space int primary key references spaces (number) on delete cascade,
    documents int not null default 0,       -- that are searched
    chunks bigint not null default 0,
    length bigint not null default 0        -- in terms
);

-- What the attempts of nodes were shown. Passages keep the text until their document is removed.
create table retrievals (
    node_id uuid not null,
    attempt int not null,
    effect int not null,
    company_id text not null,
    run_id uuid not null,
    query text not null,
    receipt jsonb not null,
    degraded text,
    created_at timestamptz not null default clock_timestamp(),
    primary key (node_id, attempt, effect)
);
create index retrievals_of_a_run on retrievals (company_id, run_id);
create index retrievals_by_age on retrievals (created_at);

create table passages (
    node_id uuid not null,
    attempt int not null,
    effect int not null,
    n int not null,                         -- as it is cited, counted through the attempt
    document_id uuid not null,
    external_id text,
    title text not null,
    version int not null,
    space_id uuid not null,
    chunk_id uuid not null,
    start int not null,
    stop int not null,
    page int,
    score double precision not null,
    body text,                              -- null once the document is gone
    primary key (node_id, attempt, n),
    foreign key (node_id, attempt, effect) references retrievals on delete cascade
);
create index passages_of_a_document on passages (document_id);

-- Bytes in the object store under `<company>/documents/<sha256>`: the only objects that rag ever deletes.
create table objects (
    company_id text not null,
    sha256 text not null,
    size bigint not null,
    stored boolean not null default false,  -- a put has succeeded
    wanted_at timestamptz not null default clock_timestamp(), -- when somebody last was about to need them
    doomed_at timestamptz,                  -- they are being deleted: who wants them now waits until they are gone
    primary key (company_id, sha256),
    constraint a_size_is_not_negative check (size >= 0)
);
create index objects_by_age on objects (wanted_at);
