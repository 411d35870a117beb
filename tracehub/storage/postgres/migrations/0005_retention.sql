-- Retention, as in schema.sql.
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
