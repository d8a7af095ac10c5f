-- Costs that are not exactly known, settlements that come before their reservation, and calls that were under way when a budget began.

alter table reservations add column settled_at timestamptz;   -- it was settled before it was made: it must not be made any more
alter table reservations add column accounts text[];          -- of another service's call: who pays for it, as scope/id
alter table reservations add column follows boolean not null default false; -- an attempt older than its budget: charged when it ends
alter table reservations drop constraint reservation_reserves_something;
alter table reservations add constraint reservation_reserves_something
    check (settled_at is not null or follows or amount_usd > 0 and cardinality(budgets) > 0);

-- A cost stays a number: calls of which nobody knows what they came to are counted beside it.
alter table nodes add column estimated_calls int not null default 0;   -- in cost_usd with the most that they can have cost
alter table nodes add column unpriced_calls int not null default 0;    -- not in cost_usd
alter table attempts add column estimated_calls int not null default 0;
alter table attempts add column unpriced_calls int not null default 0;
update nodes set cost_usd = 0, unpriced_calls = greatest(requests, 1) where cost_usd is null;
update attempts set cost_usd = 0, unpriced_calls = greatest(requests, 1) where cost_usd is null;
