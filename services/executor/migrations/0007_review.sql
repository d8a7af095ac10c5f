-- Verdicts on results, what attempts are told of them, and what waits for a person.

alter table nodes add column verdict jsonb;    -- contracts.verdict.Verdict: the latest on the result that the node has
alter table attempts add column warnings text[];  -- what a reader of its result should know; told again with its acceptance

-- From attempt `attempt` on, the node's model is told this beside its node (contracts.review.Guidance).
create table guidances (
    node_id uuid not null references nodes (id) on delete cascade,
    attempt int not null,
    guidance jsonb not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (node_id, attempt)
);

-- Neither column changes with an ordinary move, so that those stay within their page.
create index nodes_that_need_a_person on nodes (run_id)
    where verdict->>'effect' = 'hold' or 'verdict' = any (pause_reasons);

alter table signals drop constraint signal_kind_is_known;
alter table signals add constraint signal_kind_is_known check (kind in
    ('pause', 'resume', 'cancel', 'skip_failed_and_resume', 'node_pause', 'node_resume', 'node_skip', 'node_override',
     'nodes_funded', 'node_rerun', 'verdict'));
