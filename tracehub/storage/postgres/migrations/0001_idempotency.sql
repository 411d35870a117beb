-- Requests that mean once (schema.sql has the same table).
create table if not exists idempotency (
    scope      bytea       primary key,
    body       bytea       not null,
    id_base    uuid        not null,
    accepted   integer     not null default 0,
    duplicates integer     not null default 0,
    conflicts  integer     not null default 0,
    created_ms bigint      not null default 0,
    at         timestamptz not null default now()
);
create index if not exists idempotency_at on idempotency (at);
