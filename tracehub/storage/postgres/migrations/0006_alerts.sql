-- Alerts and their deliveries.
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
