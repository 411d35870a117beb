-- TraceHub's one schema, readable from top to bottom, idempotent.
-- A new database gets this file; an existing one gets the numbered migrations, and a test proves that both
-- end alike. Words are those of docs/protocol.md.

create extension if not exists pg_trgm; -- for text searches over closed partitions

-- ---------------------------------------------------------------------------------------------------------
-- The ledger: one row per stream, that is per (tenant, numbering, epoch). What is in `received` was inserted
-- in the same transaction that added it; what is in `lost` has its reason in `losses`.

create table if not exists ack_state (
    stream_id    bigint generated always as identity primary key,
    tenant_id    uuid           not null,
    numbering    text           not null,           -- a service, or @<door> where the server numbers
    epoch        bigint         not null,
    received     int8multirange not null default '{}',
    lost         int8multirange not null default '{}',
    expired      int8multirange not null default '{}', -- received once, its row dropped by retention
    void         int8multirange not null default '{}', -- received as well: numbers that the server gave to nobody
    start_seq    bigint,                            -- lowest number the producer can still supply
    duplicates   bigint         not null default 0,
    conflicts    bigint         not null default 0,
    open_replays integer        not null default 0, -- replay_requests that are pending or running
    created_at   timestamptz    not null default now(),
    updated_at   timestamptz    not null default now(),
    unique (tenant_id, numbering, epoch)
) with (fillfactor = 40); -- room for HOT updates: no indexed column ever changes

create table if not exists losses (
    id         bigint generated always as identity primary key,
    stream_id  bigint      not null references ack_state,
    from_seq   bigint      not null,
    to_seq     bigint      not null,
    reason     text        not null, -- start, producer, replay, epoch_superseded, dead_letter, operator
    note       text,                 -- what the producer or the operator gave as reason
    signed_by  text        not null,
    at         timestamptz not null default now(),
    found_at   timestamptz,          -- the number turned up after all, and is stored
    check (from_seq <= to_seq)
);
create index if not exists losses_stream on losses (stream_id, from_seq);

create table if not exists replay_requests (
    id           bigint generated always as identity primary key,
    stream_id    bigint      not null references ack_state,
    from_seq     bigint      not null,
    to_seq       bigint      not null,
    status       text        not null default 'pending' check (status in ('pending', 'running', 'completed', 'lost')),
    requested_by text        not null check (requested_by in ('gap', 'manual')),
    attempts     integer     not null default 0,
    misses       integer     not null default 0, -- attempts that found a readable buffer without these numbers
    found        bigint      not null default 0,
    inserted     bigint      not null default 0,
    created_at   timestamptz not null default now(),
    next_at      timestamptz not null default now(),
    completed_at timestamptz,
    latency_ms   bigint,
    error        text,
    check (from_seq <= to_seq)
);
create index if not exists replay_requests_open on replay_requests (stream_id) where status in ('pending', 'running');
create index if not exists replay_requests_due on replay_requests (next_at) where status in ('pending', 'running');

create table if not exists dead_letters (
    id         bigint generated always as identity primary key,
    tenant_id  uuid        not null,
    stream_id  bigint      not null references ack_state,
    seq        bigint      not null,
    entry_id   uuid        not null,
    batch_id   text        not null,
    door       text        not null,
    reason     text        not null, -- conflict, or why the store refuses the entry
    error      text        not null,
    payload    bytea       not null, -- the entry, msgpack
    retries    integer     not null default 0,
    created_at timestamptz not null default now()
);
create index if not exists dead_letters_stream on dead_letters (stream_id, seq);
-- A job that runs twice sets the same entry aside once.
create unique index if not exists dead_letters_entry on dead_letters (entry_id);

-- ---------------------------------------------------------------------------------------------------------
-- The entries. Range-partitioned by ts; partitions are made by tracehub (PARTITION_* in queries.sql), which
-- also gives each one UNIQUE (stream_id, seq), the belt to the ledger's braces. No default partition.
-- Fixed-width columns stand first, so that no row carries padding.

create table if not exists logs (
    stream_id   bigint      not null,
    seq         bigint      not null,
    ts          timestamptz not null,
    created_at  timestamptz not null,
    id          uuid        not null, -- UUIDv7, ascending within a request
    tenant_id   uuid        not null,
    severity    smallint    not null, -- OpenTelemetry number 1..24
    door        text        not null,
    service     text        not null,
    level       text        not null, -- as given, cut to 20
    message     text        not null,
    trace_id    text,
    span_id     text,
    request_id  text,
    user_id     text,
    category    text,
    batch_id    text,
    app_id      text,
    environment text,
    release     text,
    host        text,
    source      text,
    user_agent  text,
    attrs       jsonb
) partition by range (ts);

-- What each index is for, and why it is not the obvious one (docs/performance.md has the measurements):
-- * ids ascend with the order of insertion, so a block range index finds one and costs nothing to keep;
-- * (tenant, ts) serves "newest first"; id only breaks ties, which an incremental sort does;
-- * a B-tree on trace and request ids would cost more than the row itself; the bloom filters narrow a look-up
--   to a few block ranges of the hot partition.
create index if not exists logs_id on logs using brin (id) with (pages_per_range = 32, autosummarize = on);
create index if not exists logs_tenant_ts on logs (tenant_id, ts);
create index if not exists logs_trace_request on logs
    using brin (trace_id text_bloom_ops, request_id text_bloom_ops) with (pages_per_range = 64, autosummarize = on);

-- Ids that clients gave are unique per tenant over all partitions; server-made ids need no row here.
create table if not exists entry_ids (
    tenant_id uuid not null,
    id        uuid not null,
    ts        timestamptz not null,
    primary key (tenant_id, id)
);

-- How many entries each hour holds, kept with the ingest: a transaction appends what it changes, which contends with
-- nobody, and a cron folds the changes in, by hour and by day. Counts and changes together are exact in every snapshot.
create table if not exists log_counts (
    tenant_id uuid        not null,
    hour      timestamptz not null,
    service   text        not null,
    severity  smallint    not null,
    entries   bigint      not null,
    bytes     bigint      not null, -- of messages and attrs, and ROW_BYTES for the rest of each row
    primary key (tenant_id, hour, service, severity)
);
create table if not exists log_counts_daily (
    tenant_id uuid        not null,
    day       timestamptz not null,
    service   text        not null,
    severity  smallint    not null,
    entries   bigint      not null,
    bytes     bigint      not null,
    primary key (tenant_id, day, service, severity)
);
create table if not exists log_count_changes (
    tenant_id uuid        not null,
    hour      timestamptz not null,
    service   text        not null,
    severity  smallint    not null,
    entries   bigint      not null,
    bytes     bigint      not null
);

-- What an Idempotency-Key stands for: written in the transaction of the rows, kept for 24 h. The answer is made
-- again from the body, whose ids and times follow from id_base.
create table if not exists idempotency (
    scope      bytea       primary key, -- SHA-256 of tenant, key, method and path
    body       bytea       not null,    -- SHA-256 of the inflated body
    id_base    uuid        not null,
    accepted   integer     not null default 0,
    duplicates integer     not null default 0,
    conflicts  integer     not null default 0,
    created_ms bigint      not null default 0,
    at         timestamptz not null default now()
);
create index if not exists idempotency_at on idempotency (at);

-- ---------------------------------------------------------------------------------------------------------
-- Who may do what (docs/operations.md, Keys and tenants). Of a key and of a login only the SHA-256 is kept.

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

-- ---------------------------------------------------------------------------------------------------------
-- How long entries are kept (docs/operations.md, Retention). A tenant without a policy has the defaults.

create table if not exists retention_policies (
    id              uuid             primary key,
    tenant_id       uuid             not null unique,
    retention_days  integer          not null,
    max_size_gb     double precision not null,
    archive_enabled boolean          not null,
    archive_path    text,
    created_at      timestamptz      not null default now(),
    updated_at      timestamptz      not null default now()
);

-- A run is asked for by its row; a worker takes it up, and another one goes on with it where the first one ended.
-- What is counted here is counted in the transaction that deleted it.
create table if not exists retention_runs (
    id                 uuid        primary key,
    tenant_id          uuid,                            -- null: all
    dry_run            boolean     not null,
    due                timestamptz unique,              -- the moment of the schedule that asked for it
    asked_at           timestamptz not null default now(),
    started_at         timestamptz,                     -- ages are counted from here, also by who goes on
    finished_at        timestamptz,
    archived           bigint      not null default 0,
    deleted_rows       bigint      not null default 0,
    dropped_partitions integer     not null default 0,
    tenants            integer     not null default 0,
    emptied            text[]      not null default '{}', -- partitions to drop, and whose ids are to be forgotten
    error              text
);
create index if not exists retention_runs_open on retention_runs (asked_at) where finished_at is null;
create index if not exists retention_runs_asked on retention_runs (asked_at);

-- The least that a byte of entries took on the disk with its indexes, noted before rows of a partition are deleted: that
-- makes no partition smaller, so later its size says nothing of what is left.
create table if not exists retention_densities (
    partition text             primary key,
    density   double precision not null
);

-- What tenants have on the disk, by hour: their share of each partition with its indexes, of which what deleted rows left
-- behind is nobody's; and what a counted byte takes there.
create or replace view log_bytes as
with counts as (
    select tenant_id, hour, to_char(hour at time zone 'UTC', 'YYYY_MM_DD') as day, entries, bytes from log_counts
    union all
    select tenant_id, hour, to_char(hour at time zone 'UTC', 'YYYY_MM_DD'), entries, bytes from log_count_changes),
sizes as (
    select c.relname::text as name, pg_total_relation_size(c.oid) as size
    from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'logs'::regclass),
hours as (
    select s.name, s.size, c.tenant_id, c.hour, sum(c.entries) as entries, greatest(sum(c.bytes), 0) as bytes
    from counts c join sizes s on s.name in ('logs_' || left(c.day, 7), 'logs_' || c.day)
    group by 1, 2, 3, 4 having sum(c.entries) > 0),
densities as (
    select name, least(size / greatest(sum(bytes), 1), min(d.density)) as density
    from hours left join retention_densities d on d.partition = name group by name, size)
select tenant_id, hour, entries::bigint as entries, (bytes * density)::double precision as bytes, density
from hours join densities using (name);

-- The entries under the field names of the log service.
create or replace view log_entries as
select id, tenant_id, service as service_name,
       case when severity <= 8 then 'DEBUG' when severity <= 12 then 'INFO' when severity <= 16 then 'WARN'
            when severity <= 20 then 'ERROR' else 'FATAL' end as level,
       message, ts as "timestamp", trace_id, span_id, user_id, request_id,
       case when attrs ? '_value' and attrs - '_value' = '{}' then attrs -> '_value' else attrs end as metadata,
       source, host, environment, created_at, severity, level as level_text, app_id, category, batch_id, user_agent,
       release, door
from logs;

-- Alerts (log-service.md §7). `filter` and `channels` as they were sent, with the secrets; `app_key`: the only service
-- that the alert sees, where who made it sees no other.
create table if not exists alerts (
    id             uuid        primary key,
    tenant_id      uuid        not null,
    app_key        text,
    name           text        not null,
    description    text        not null,
    enabled        boolean     not null,
    filter         jsonb       not null,
    threshold      integer     not null,
    window_mins    integer     not null,
    severity       text        not null,
    cooldown_mins  integer     not null,
    channels       jsonb       not null,
    last_triggered timestamptz,
    created_at     timestamptz not null,
    updated_at     timestamptz not null
);
create index if not exists alerts_tenant on alerts (tenant_id, created_at);

-- What is to be delivered, or was: kept for 30 days. A worker that takes one moves next_attempt_at behind the end of its
-- attempt; should the worker die, another one takes it then. `channel` as it was when the alert was triggered.
create table if not exists alert_deliveries (
    id              uuid        primary key, -- the webhook-id
    alert_id        uuid        not null references alerts on delete cascade,
    channel         jsonb       not null,
    body            bytea       not null,
    status          text        not null default 'pending' check (status in ('pending', 'sent', 'failed')),
    attempts        integer     not null default 0,
    http_status     integer,
    error           text,
    created_at      timestamptz not null,
    next_attempt_at timestamptz,
    finished_at     timestamptz
);
create index if not exists alert_deliveries_alert on alert_deliveries (alert_id, created_at);
create index if not exists alert_deliveries_due on alert_deliveries (next_attempt_at) where status = 'pending';
create index if not exists alert_deliveries_created on alert_deliveries (created_at);

-- ---------------------------------------------------------------------------------------------------------
-- What the ledger means, in SQL. tracehub/protocol/ack.py is the same in Python, and one suite runs on both.

create or replace function ack_till(received int8multirange, lost int8multirange) returns bigint
    language sql immutable parallel safe
    return lower('{[1,)}'::int8multirange - received - lost) - 1;

create or replace function missing_ranges(received int8multirange, lost int8multirange,
                                          in_flight int8multirange, highest bigint) returns int8multirange
    language sql immutable parallel safe
    return int8multirange(int8range(1, greatest(highest, 0) + 1)) - received - lost - in_flight;

create or replace function numbers_in(ranges int8multirange) returns bigint
    language sql immutable parallel safe
    return coalesce((select sum(upper(r) - lower(r)) from unnest(ranges) as r), 0)::bigint;

create or replace function ranges_in(ranges int8multirange) returns bigint
    language sql immutable parallel safe
    return (select count(*) from unnest(ranges));
