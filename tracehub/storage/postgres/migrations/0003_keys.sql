-- Keys and logins, as in schema.sql.
create table if not exists api_keys (
    id         uuid        primary key,
    name       text        not null,
    digest     bytea       not null unique,
    scopes     text[]      not null,
    tenant_id  uuid,                 -- null: any tenant
    app_key    text,                 -- null: any service
    doors      text[],               -- null: every door
    rate       double precision,     -- entries per second; null: no limit
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);

-- Not bound to api_keys: a key of the environment can log in as well. Its key's end is its end.
create table if not exists logins (
    digest     bytea       primary key,
    key_digest bytea       not null,
    expires_at timestamptz not null,
    created_at timestamptz not null default now()
);
create index if not exists logins_key on logins (key_digest, created_at);
