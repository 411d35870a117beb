-- Counts by the hour (schema.sql has the same tables), and those of the rows that are there.
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
insert into log_counts
select tenant_id, date_trunc('hour', ts, 'UTC'), service, severity, count(*),
       sum(octet_length(message) + coalesce(octet_length(attrs::text), 0) + 150)
from logs group by 1, 2, 3, 4
on conflict do nothing;
insert into log_counts_daily
select tenant_id, date_trunc('day', hour, 'UTC'), service, severity, sum(entries), sum(bytes) from log_counts
group by 1, 2, 3, 4
on conflict do nothing;
