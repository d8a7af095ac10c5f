-- Calls that other services make for an attempt at a node, as for the questions it asks of what the company knows: they count in
-- its costs, whether or not a budget is in force.

alter table reservations add column purchase jsonb;           -- contracts.budgets.Purchase
alter table reservations drop constraint reservation_reserves_something;
alter table reservations add constraint reservation_reserves_something
    check (settled_at is not null or follows or purchase is not null or amount_usd > 0 and cardinality(budgets) > 0);

-- Their sums by attempt, which are in the sums of nodes, and not in those of attempts: budgets that follow an attempt are charged
-- what that has called itself.
create table purchases (
    node_id uuid not null references nodes (id) on delete cascade,
    attempt int not null,
    company_id text not null,
    prompt_tokens bigint not null,
    completion_tokens bigint not null,
    requests int not null,
    cost_usd numeric not null,
    estimated_calls int not null,
    unpriced_calls int not null,
    primary key (node_id, attempt)
);
