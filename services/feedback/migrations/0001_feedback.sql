-- What somebody has judged: whose work it was, how often a verdict was given, and which one is in force.
create table attempts (
    node_id uuid not null,
    attempt int not null,
    company_id text not null,
    project_id text not null,
    task_id uuid,
    run_id uuid not null,
    node_key text not null,
    role text,
    agent_id text,
    author_model text,                      -- provider/model
    version int not null default 0,         -- verdicts given so far
    in_force uuid,                          -- the feedback whose verdict counts
    revised boolean not null default false, -- another attempt followed by itself
    created_at timestamptz not null default clock_timestamp(),
    primary key (node_id, attempt),
    constraint a_verdict_is_in_force_once_one_was_given check ((in_force is null) = (version = 0))
);
create index attempts_of_a_run on attempts (run_id);
create index attempts_by_age on attempts using brin (created_at) with (pages_per_range = 32, autosummarize = on);

create table feedbacks (
    id uuid primary key,
    company_id text not null,
    node_id uuid not null,
    attempt int not null,
    source text not null,
    reviewer text,
    score int,
    threshold int,                          -- that the score was held against
    decision text,
    critical boolean not null,
    comment text,
    metadata jsonb not null,
    evaluation jsonb not null,
    request_id text not null,
    job_id uuid,                            -- the review that said it
    created_at timestamptz not null default clock_timestamp(),
    foreign key (node_id, attempt) references attempts on delete cascade,
    constraint a_source_is_auto_or_human check (source in ('auto', 'human')),
    constraint a_score_is_0_to_100 check (score between 0 and 100),
    constraint a_decision_is_accept_revise_or_reject check (decision in ('accept', 'revise', 'reject')),
    constraint a_score_is_a_verdict check ((score is null) = (decision is null) and (score is null) = (threshold is null)),
    constraint what_is_critical_has_a_score check (score is not null or not critical)
);
create unique index one_review_per_attempt on feedbacks (node_id, attempt) where job_id is not null;
create index feedbacks_of_an_attempt on feedbacks (node_id, attempt);
create index feedbacks_newest on feedbacks (company_id, created_at desc);

create table policies (
    company_id text not null,
    scope text not null,
    scope_id text not null,
    critical_threshold int,
    auto_revise int,
    set_by text,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (company_id, scope, scope_id),
    constraint a_policy_is_for_a_company_project_task_or_agent check (scope in ('company', 'project', 'task', 'agent')),
    constraint a_threshold_is_0_to_100 check (critical_threshold between 0 and 100),
    constraint up_to_ten_attempts_follow_by_themselves check (auto_revise between 0 and 10),
    constraint a_policy_says_something check (critical_threshold is not null or auto_revise is not null)
);

-- What a model has answered and was paid for, until the review is over: a worker that takes the job over calls nobody again.
create table model_calls (
    job_id uuid primary key,
    company_id text not null,
    answer jsonb not null,
    created_at timestamptz not null default clock_timestamp()
);
