-- Calls to providers of vectors, each once: what it took, and for whom.
create table embedding_calls (
    id uuid primary key,
    company_id text not null,
    provider text not null,
    model text not null,
    purpose text not null,
    project text,
    task_id uuid,
    agent_id text,
    run_id uuid,                            -- of an agent's question: the attempt and the tool's use that asked it
    node_id uuid,
    attempt int,
    effect int,
    texts int not null,
    tokens bigint not null,
    cost_usd numeric,                       -- null: no price is known, which is not 0
    estimated boolean not null,             -- nobody can tell what it took: the cost is the most that it can have been
    latency_ms int not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint a_call_is_for_documents_or_a_question check (purpose in ('documents', 'questions')),
    constraint what_a_call_took_is_not_negative check (tokens >= 0 and coalesce(cost_usd, 0) >= 0)
);
create index embedding_calls_by_age on embedding_calls (created_at);
create index embedding_calls_of_a_use on embedding_calls (node_id, attempt, effect) where node_id is not null;

-- Their sums, which stay when they go.
create table embedding_spend (
    company_id text not null,
    provider text not null,
    model text not null,
    purpose text not null,
    calls bigint not null,
    tokens bigint not null,
    cost_usd numeric not null,              -- without those that have no price
    estimated_calls bigint not null,
    unpriced_calls bigint not null,
    primary key (company_id, provider, model, purpose)
);

-- Why a version is found by its words only, or not yet; for people to read.
alter table versions add column waits_for text;
