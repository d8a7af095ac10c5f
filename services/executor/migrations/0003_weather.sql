-- Provider weather: one circuit per provider and model for all executors, and what it is judged by.

create table circuits (
    provider text not null,
    model text not null,
    state text not null default 'closed',
    since timestamptz not null default clock_timestamp(),  -- when it left, or came back to, fair weather
    reason text,
    until timestamptz,                         -- of an open one: its rest
    rest double precision not null default 0,  -- seconds; the latest rest that the provider did not name
    probe uuid,                                -- of a half-open one: the claim of whoever tries
    probe_until timestamptz,                   -- then the next one may
    primary key (provider, model),
    constraint circuit_state_is_known check (state in ('closed', 'open', 'half_open')),
    constraint open_circuit_rests_until check ((until is not null) = (state = 'open')),
    constraint half_open_circuit_has_a_probe
        check ((probe is not null) = (state = 'half_open') and (probe_until is not null) = (state = 'half_open')),
    constraint bad_weather_has_a_reason check (state = 'closed' or reason is not null)
) with (fillfactor = 60);

-- How calls ended, added up by each executor and second; a minute is kept.
create table outcomes (
    provider text not null,
    model text not null,
    second timestamptz not null,
    calls int not null,
    failures int not null,
    primary key (provider, model, second)
) with (fillfactor = 60);

-- 'provider/model' that a queued node waits for. Any other move of the node clears it.
alter table nodes add column parked_on text;
create index nodes_parked on nodes (parked_on) where parked_on is not null;

-- What was asked for, when a fallback did it.
alter table attempts add column requested text;
