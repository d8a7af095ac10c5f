-- Up to which position each feed has been forgotten. Not in `feeds`: that row belongs to the projector.
create table floors (
    company_id text primary key references feeds,
    position bigint not null
);
