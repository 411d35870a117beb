-- Every query by name, each with a sentence. Loaded by queries.py; nothing else holds SQL but schema.sql.
-- Multiranges travel as text ('{[1,5),[7,9)}') and only when they are small; large ones stay here.

-- name: insert_streams
-- Make absent ledger rows in ascending key order; the caller sorted the arrays.
insert into ack_state (tenant_id, numbering, epoch)
select tenant_id, numbering, epoch
from unnest($1::uuid[], $2::text[], $3::bigint[]) with ordinality as s(tenant_id, numbering, epoch, place)
order by place
on conflict do nothing;

-- name: select_streams
-- The ids of streams by name.
select a.stream_id, a.tenant_id, a.numbering, a.epoch
from ack_state a
join unnest($1::uuid[], $2::text[], $3::bigint[]) as s(tenant_id, numbering, epoch)
  on (a.tenant_id, a.numbering, a.epoch) = (s.tenant_id, s.numbering, s.epoch);

-- name: count_epochs
-- How many epochs each of these services has, and how many services its tenant has.
with asked as (select distinct tenant_id, numbering from unnest($1::uuid[], $2::text[]) as s (tenant_id, numbering)),
tenants as (
    select t.tenant_id, (select count(distinct a.numbering) from ack_state a where a.tenant_id = t.tenant_id) as services
    from (select distinct tenant_id from asked) as t)
select tenant_id, numbering, services,
       (select count(*) from ack_state a where (a.tenant_id, a.numbering) = (q.tenant_id, q.numbering)) as epochs
from asked q join tenants using (tenant_id);

-- name: lock_streams
-- Lock ledger rows in ascending order and subtract: what of the incoming is received, lost, and which gaps it makes.
-- A void number that comes after all is new.
select a.stream_id,
       nullif((a.received - a.void) * i.numbers, '{}')::text as known,
       nullif(a.lost * i.numbers, '{}')::text as found,
       ranges_in(a.received + a.lost + i.numbers) as settled_ranges
from ack_state a
join unnest($1::bigint[], $2::text[]::int8multirange[]) as i(stream_id, numbers) using (stream_id)
order by a.stream_id
for update of a;

-- name: gaps_with
-- How many gaps a stream has once these numbers are received.
select ranges_in(missing_ranges(received + $2::text::int8multirange, lost, '{}',
                                upper(received + lost + $2::text::int8multirange) - 1))
from ack_state where stream_id = $1;

-- name: stored_rows
-- The rows of numbers that are received, as far as they still exist.
select seq, id, level, message, ts from logs where stream_id = $1 and seq = any($2::bigint[]);

-- name: rows_present
-- Which of these numbers have a row, whatever the ledger says.
select seq from logs where stream_id = $1 and seq = any($2::bigint[]);

-- name: add_to_streams
-- Add what was stored to the ledger rows and tell how far each stream is now.
update ack_state a set
    received   = a.received + c.fresh,
    void       = (a.void - c.fresh) + c.void,
    lost       = (a.lost - c.fresh) + c.dead,
    start_seq  = greatest(a.start_seq, c.start),
    duplicates = a.duplicates + c.duplicates,
    conflicts  = a.conflicts + c.conflicts,
    updated_at = clock_timestamp()
from unnest($1::bigint[], $2::text[]::int8multirange[], $3::text[]::int8multirange[], $4::bigint[],
            $5::bigint[], $6::bigint[], $7::text[]::int8multirange[], $8::bigint[],
            $9::text[]::int8multirange[])
     as c(stream_id, fresh, dead, start, duplicates, conflicts, in_flight, highest_in_flight, void)
where a.stream_id = c.stream_id
returning a.stream_id,
          ack_till(a.received, a.lost) as ack_till,
          greatest(upper(a.received + a.lost) - 1, c.highest_in_flight, 0) as highest,
          a.start_seq, a.open_replays,
          a.numbering like '@%' or
          isempty(missing_ranges(a.received, a.lost, c.in_flight,
                                 greatest(upper(a.received + a.lost) - 1, c.highest_in_flight, 0))) as whole;

-- name: claim_ids
-- Write down ids that clients gave; tell which were there before, and at what time their rows stand.
insert into entry_ids as e (tenant_id, id, ts)
select tenant_id, id, 'epoch'::timestamptz + ts_ms * interval '1 millisecond'
from unnest($1::text[]::uuid[], $2::uuid[], $3::bigint[]) as c(tenant_id, id, ts_ms)
order by tenant_id, id
on conflict (tenant_id, id) do update set ts = e.ts
returning e.tenant_id, e.id, e.ts, xmax <> 0 as taken;

-- name: ids_stored
-- Which of these ids are written down.
select e.tenant_id, e.id from entry_ids e
join unnest($1::text[]::uuid[], $2::uuid[]) as c(tenant_id, id) using (tenant_id, id);

-- name: rows_of_ids
-- Rows by tenant, id and time.
select l.tenant_id, l.id, l.level, l.message, l.ts
from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as c(tenant_id, id, ts)
join logs l on (l.tenant_id, l.ts, l.id) = (c.tenant_id, c.ts, c.id);

-- name: claim_once
-- The first request of an Idempotency-Key writes itself down; another one is told who was first.
insert into idempotency as i (scope, body, id_base) values ($1, $2, $3)
on conflict (scope) do update set scope = i.scope
returning i.id_base;

-- name: settle_once
-- What became of the request of an Idempotency-Key.
update idempotency set accepted = $2, duplicates = $3, conflicts = $4, created_ms = $5 where scope = $1;

-- name: find_once
-- The request of an Idempotency-Key, as far as it is committed.
select body, id_base, accepted, duplicates, conflicts, created_ms from idempotency where scope = $1;

-- name: forget_once
-- Keys are kept for 24 h.
delete from idempotency where at < now() - interval '24 hours';

-- name: void_streams
-- Numberings of the server that have numbers nobody stored, as far as they are not in flight.
select stream_id, missing_ranges(received, lost, c.in_flight, upper(received + lost) - 1)::text as missing
from ack_state a
left join unnest($1::bigint[], $2::text[]::int8multirange[]) as f(stream_id, numbers) using (stream_id),
     lateral (select coalesce(f.numbers, '{}') as in_flight) as c
where a.numbering like '@%'
  and not isempty(missing_ranges(received, lost, c.in_flight, upper(received + lost) - 1))
limit 1000;

-- name: void_numbers
-- Close numbers that nobody got: neither lost nor missing.
update ack_state set received = received + n.numbers, void = void + n.numbers
from (select $2::text::int8multirange - received - lost as numbers from ack_state where stream_id = $1 for update) as n
where stream_id = $1;

-- name: store_whole
-- A small store in one statement: streams of which every incoming number is new, and which are whole with them.
-- Rows are locked in ascending order like everywhere else; the update follows a row that changed meanwhile.
with incoming as (
    select * from unnest($1::bigint[], $2::text[]::int8multirange[], $3::text[]::int8multirange[], $4::bigint[])
        as c(stream_id, fresh, in_flight, highest_in_flight)),
locked as materialized (
    select a.stream_id, c.fresh, c.in_flight, c.highest_in_flight
    from ack_state a join incoming c using (stream_id)
    where a.open_replays = 0 and not a.received && c.fresh and not a.lost && c.fresh
      and (a.numbering like '@%' or
           isempty(missing_ranges(a.received + c.fresh, a.lost, c.in_flight,
                                  greatest(upper(a.received + a.lost + c.fresh) - 1, c.highest_in_flight))))
    order by a.stream_id
    for update of a),
added as (
    update ack_state a set received = a.received + c.fresh, updated_at = clock_timestamp()
    from locked c where a.stream_id = c.stream_id
    returning a.stream_id, ack_till(a.received, a.lost) as ack_till,
              greatest(upper(a.received + a.lost) - 1, c.highest_in_flight, 0) as highest),
stored as (
    insert into logs (stream_id, created_at, tenant_id, door, service, batch_id, seq, ts, id, severity, level, message,
                      trace_id, request_id, span_id, user_id, category, source, host, environment, user_agent, release,
                      app_id, attrs)
    select stream_id, 'epoch'::timestamptz + r.created_ms * interval '1 millisecond', r.tenant_id, r.door, r.service,
           r.batch_id, r.seq, 'epoch'::timestamptz + r.ts_ms * interval '1 millisecond', r.id, r.severity, r.level,
           r.message, r.trace_id, r.request_id, r.span_id, r.user_id, r.category, r.source, r.host, r.environment,
           r.user_agent, r.release, r.app_id, r.attrs
    from unnest($5::bigint[], $6::bigint[], $7::text[]::uuid[], $8::text[], $9::text[], $10::text[], $11::bigint[],
                $12::bigint[], $13::text[]::uuid[], $14::smallint[], $15::text[], $16::text[], $17::text[], $18::text[],
                $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::text[], $25::text[], $26::text[],
                $27::text[], $28::text[]::jsonb[])
         as r(stream_id, created_ms, tenant_id, door, service, batch_id, seq, ts_ms, id, severity, level, message,
              trace_id, request_id, span_id, user_id, category, source, host, environment, user_agent, release,
              app_id, attrs)
    join added using (stream_id)
    returning tenant_id, ts, service, severity, octet_length(message) + coalesce(octet_length(attrs::text), 0) as bytes),
counted as (
    insert into log_count_changes
    select tenant_id, date_trunc('hour', ts, 'UTC'), service, severity, count(*), sum(bytes) + count(*) * $29::bigint
    from stored group by 1, 2, 3, 4)
select stream_id, ack_till, highest from added;

-- name: count_stored
-- What a transaction stored, by hour.
insert into log_count_changes
select * from unnest($1::text[]::uuid[], $2::timestamptz[], $3::text[], $4::smallint[], $5::bigint[], $6::bigint[]);

-- name: fold_counts
-- Changes of counts become counts, by hour and by day; how many there were.
with gone as (delete from log_count_changes returning *),
folded as (
    insert into log_counts as c
    select tenant_id, hour, service, severity, sum(entries), sum(bytes) from gone group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (tenant_id, hour, service, severity)
    do update set entries = c.entries + excluded.entries, bytes = c.bytes + excluded.bytes),
folded_daily as (
    insert into log_counts_daily as c
    select tenant_id, date_trunc('day', hour, 'UTC'), service, severity, sum(entries), sum(bytes)
    from gone group by 1, 2, 3, 4 order by 1, 2, 3, 4
    on conflict (tenant_id, day, service, severity)
    do update set entries = c.entries + excluded.entries, bytes = c.bytes + excluded.bytes)
select count(*) from gone;

-- name: missing
-- The gaps of a stream: the first of them, and how many numbers they hold in all.
with gaps as (
    select missing_ranges(received, lost, $2::text::int8multirange,
                          greatest(upper(received + lost) - 1, $3::bigint, 0)) as missing
    from ack_state where stream_id = $1)
select numbers_in(missing) as count,
       (select array_agg(lower(r) order by r) from (select r from unnest(missing) as r limit 1000) as f) as first,
       (select array_agg(upper(r) - 1 order by r) from (select r from unnest(missing) as r limit 1000) as f) as last
from gaps;

-- name: sequence
-- The number line of a stream between two numbers: a row per kind. Where a kind has more than $5 ranges, its
-- numbers are widened to a grid of $5 steps, on which neighbours melt together: nothing is left out.
with line as (
    select received, lost, expired, int8multirange(int8range($2::bigint, $3::bigint, '[]')) as shown,
           missing_ranges(received, lost, $4::text::int8multirange,
                          greatest(upper(received + lost) - 1,
                                   upper($4::text::int8multirange) - 1, 0)) as missing,
           coalesce((select range_agg(int8range(q.from_seq, q.to_seq, '[]')) from replay_requests q
                     where q.stream_id = a.stream_id and q.status in ('pending', 'running')), '{}') as asked
    from ack_state a where stream_id = $1),
kinds as (
    select k.kind, k.ranges * line.shown as ranges from line, lateral (values
        ('stored', received - expired), ('lost', lost), ('missing', missing - asked), ('replaying', missing * asked),
        ('expired', expired)) as k (kind, ranges))
select kind, is_coarse,
       (select array_agg(lower(r) order by r) from unnest(drawn) as r) as first,
       (select array_agg(upper(r) - 1 order by r) from unnest(drawn) as r) as last
from kinds,
     lateral (select ranges_in(ranges) > $5::bigint as is_coarse, ($3 - $2) / $5::bigint + 1 as step) as s,
     lateral (select case when not is_coarse then ranges else
                 (select range_agg(int8range((lower(r) - $2) / step * step + $2,
                                             least((upper(r) - 1 - $2) / step * step + step + $2, $3 + 1)))
                  from unnest(ranges) as r) end as drawn) as d;

-- name: unresolved
-- What of these ranges is neither received, nor lost, nor in flight.
select (($2::text::int8multirange) - received - lost - $3::text::int8multirange)::text
from ack_state where stream_id = $1;

-- name: lock_stream
-- Lock one ledger row.
select stream_id from ack_state where stream_id = $1 for update;

-- name: sign_off
-- Move what is unresolved of these ranges to lost; the row is locked by the caller.
update ack_state a set lost = a.lost + s.gone, updated_at = clock_timestamp()
from (select stream_id, ($2::text::int8multirange) - received - lost - $3::text::int8multirange as gone
      from ack_state where stream_id = $1) as s
where a.stream_id = s.stream_id and not isempty(s.gone)
returning s.gone::text;

-- name: insert_losses
-- Write down who signed off what, and why.
insert into losses (stream_id, from_seq, to_seq, reason, note, signed_by)
select $1, lower(r), upper(r) - 1, $3, $4, $5 from unnest($2::text::int8multirange) as r;

-- name: find_losses
-- Lost numbers turned up: cut them out of their losses and mark the pieces as found.
with found as (select $2::text::int8multirange as numbers),
     hit as (delete from losses l using found f
             where l.stream_id = $1 and l.found_at is null and int8range(l.from_seq, l.to_seq, '[]') && f.numbers
             returning l.*)
insert into losses (stream_id, from_seq, to_seq, reason, note, signed_by, at, found_at)
select h.stream_id, lower(r), upper(r) - 1, h.reason, h.note, h.signed_by, h.at, null::timestamptz
from hit h, found f, unnest(int8multirange(int8range(h.from_seq, h.to_seq, '[]')) - f.numbers) as r
union all
select h.stream_id, lower(r), upper(r) - 1, h.reason, h.note, h.signed_by, h.at, clock_timestamp()
from hit h, found f, unnest(int8multirange(int8range(h.from_seq, h.to_seq, '[]')) * f.numbers) as r;

-- name: drop_found_dead_letters
-- A dead letter whose number is stored now is no longer one.
delete from dead_letters where stream_id = $1 and reason <> 'conflict' and $2::text::int8multirange @> seq;

-- name: open_replays
-- Put gaps that no open request covers into replay_requests; how many numbers that are.
with open as (
    select coalesce(range_agg(int8range(from_seq, to_seq, '[]')), '{}') as covered
    from replay_requests where stream_id = $1 and status in ('pending', 'running')),
gaps as (
    select missing_ranges(a.received, a.lost, $2::text::int8multirange,
                          greatest(upper(a.received + a.lost) - 1, $3::bigint, 0)) - o.covered as uncovered
    from ack_state a, open o where a.stream_id = $1),
made as (
    insert into replay_requests (stream_id, from_seq, to_seq, requested_by, next_at)
    select $1, lower(r), upper(r) - 1, 'gap', now() + $4::bigint * interval '1 millisecond'
    from gaps, unnest(uncovered) as r
    returning to_seq - from_seq + 1 as numbers),
counted as (
    update ack_state set open_replays = open_replays + (select count(*) from made)
    where stream_id = $1 and exists (select from made))
select coalesce(sum(numbers), 0)::bigint from made;

-- name: complete_replays
-- Close the open requests of a stream whose numbers are all received or lost by now.
with settled as materialized (
    select stream_id, received, received + lost as numbers from ack_state where stream_id = $1),
done as (
    update replay_requests q
    set status = case when s.received @> int8range(q.from_seq, q.to_seq, '[]') then 'completed' else 'lost' end,
        completed_at = clock_timestamp(), error = null,
        latency_ms = (extract(epoch from clock_timestamp() - q.created_at) * 1000)::bigint
    from settled s
    where q.stream_id = s.stream_id and q.status in ('pending', 'running')
      and s.numbers @> int8range(q.from_seq, q.to_seq, '[]')
    returning q.id, q.from_seq, q.to_seq, q.inserted, q.latency_ms),
counted as (
    update ack_state set open_replays = open_replays - (select count(*) from done)
    where stream_id = $1 and exists (select from done))
select id, from_seq, to_seq, inserted, latency_ms from done;

-- name: due_replays
-- Take the due requests of a stream: they run now.
update replay_requests set status = 'running', attempts = attempts + 1
where stream_id = $1 and status in ('pending', 'running') and next_at <= to_timestamp($2::bigint / 1000.0)
returning id, from_seq, to_seq, misses, attempts, requested_by,
          (extract(epoch from clock_timestamp() - created_at) * 1000)::bigint as age_ms;

-- name: note_attempt
-- What an attempt saw, and when to look again.
update replay_requests
set found = found + $2, inserted = inserted + $3, misses = misses + $4, error = $5,
    next_at = to_timestamp($6::bigint / 1000.0),
    status = case when status = 'running' then 'pending' else status end
where id = $1;

-- name: streams_with_due_replays
-- Streams that have a request to look after now.
select distinct a.stream_id, a.tenant_id, a.numbering, a.epoch
from replay_requests q join ack_state a using (stream_id)
where q.status in ('pending', 'running') and q.next_at <= now() limit 1000;

-- name: superseded_streams
-- Older epochs with gaps, whose service has a newer epoch that said where it starts.
select a.stream_id, a.tenant_id, a.numbering, a.epoch, greatest(upper(a.received + a.lost) - 1, 0) as highest
from ack_state a
where a.numbering not like '@%'
  and exists (select from ack_state n where n.tenant_id = a.tenant_id and n.numbering = a.numbering
              and n.epoch > a.epoch and n.start_seq is not null)
  and not isempty(missing_ranges(a.received, a.lost, '{}', upper(a.received + a.lost) - 1))
limit 1000;

-- name: stream_state
-- One stream as it is committed.
select stream_id, ack_till(received, lost) as ack_till, greatest(upper(received + lost) - 1, $4::bigint, 0) as highest,
       numbers_in(lost) as lost_count, numbers_in(received) as received_count, duplicates, conflicts, start_seq,
       isempty(missing_ranges(received, lost, $5::text::int8multirange,
                              greatest(upper(received + lost) - 1, $4::bigint, 0))) as whole
from ack_state where tenant_id = $1 and numbering = $2 and epoch = $3;

-- name: epochs
-- The known epochs of a service.
select epoch from ack_state where tenant_id = $1 and numbering = $2 order by epoch;

-- name: insert_dead_letters
-- Keep entries that could not be stored; the same entry only once.
insert into dead_letters (tenant_id, stream_id, seq, entry_id, batch_id, door, reason, error, payload)
select * from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                     $8::text[], $9::bytea[])
on conflict (entry_id) do update set retries = dead_letters.retries + 1, error = excluded.error;

-- name: blockers
-- Who holds what a connection waits for, at the end of a chain of waiters too.
with recursive chain(pid) as (
    select unnest(pg_blocking_pids($1::int))
    union
    select unnest(pg_blocking_pids(c.pid)) from chain c)
select a.pid, a.application_name from pg_stat_activity a join chain using (pid);

-- name: terminate
-- End a connection; only this frees the locks of a stopped client.
select pg_terminate_backend($1::int) from pg_stat_activity where pid = $1::int and application_name = $2;

-- name: partitions
-- The partitions of logs.
select c.relname as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'logs'::regclass;

-- name: partition_lock
-- One at a time makes partitions; released with the transaction.
select pg_advisory_xact_lock(7310, 1);

-- name: PARTITION_MAKE
-- Make one partition with its belt, outside of logs, then attach it. {name}, {first} and {last} come from
-- partitions.py, which makes them from dates alone.
create table {name} (like logs including all);
alter table {name} add constraint {name}_bounds check (ts >= '{first}' and ts < '{last}');
create unique index {name}_belt on {name} (stream_id, seq);
alter table logs attach partition {name} for values from ('{first}') to ('{last}');
alter table {name} drop constraint {name}_bounds;

-- name: CLOSED_INDEX
-- One index of a closed partition, made without holding anybody up. {name}, {index} and {definition} come from closed.py.
create index concurrently if not exists {index} on {name} {definition};

-- name: invalid_indexes
-- Indexes of these partitions whose making was cut off.
select c.relname as name from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
where not i.indisvalid and t.relname = any($1::text[]);

-- name: DROP_INDEX
-- Take one of them away, to make it anew. {name} comes from the list.
drop index concurrently if exists {name};

-- name: indexes_of
-- The indexes that partitions have.
select i.indexrelid::regclass::text as name from pg_index i join pg_class t on t.oid = i.indrelid
where t.relname = any($1::text[]);

-- name: closing_lock
-- One at a time makes the indexes of closed partitions; held by the connection.
select pg_try_advisory_lock(7310, 2);

-- name: closing_unlock
-- It is done.
select pg_advisory_unlock(7310, 2);

-- name: services
-- The newest epoch of each service of a tenant (null: of all), as it is committed.
select distinct on (a.numbering, a.tenant_id) a.numbering as service, a.tenant_id, a.stream_id, a.epoch,
       ack_till(a.received, a.lost) as ack_till, greatest(upper(a.received + a.lost) - 1, 0) as highest,
       numbers_in(a.lost) as lost_count, a.duplicates, a.conflicts, a.updated_at,
       (select min(q.created_at) from replay_requests q
        where q.stream_id = a.stream_id and q.status in ('pending', 'running')) as oldest_gap,
       exists (select from replay_requests q where q.stream_id = a.stream_id and q.status = 'running') as replaying
from ack_state a
where ($1::uuid is null or a.tenant_id = $1) and a.numbering not like '@%' and ($2::text is null or a.numbering = $2)
order by a.numbering, a.tenant_id, a.epoch desc
limit $3;

-- name: totals
-- The ledger of a tenant and of a service (null: of all) in one line.
select coalesce(sum(numbers_in(received)), 0)::bigint as received, coalesce(sum(numbers_in(lost)), 0)::bigint as lost,
       coalesce(sum(numbers_in(expired)), 0)::bigint as expired,
       coalesce(sum(duplicates), 0)::bigint as duplicates, coalesce(sum(conflicts), 0)::bigint as conflicts,
       (select count(*) from dead_letters d join ack_state a using (stream_id)
        where ($1::uuid is null or d.tenant_id = $1) and ($2::text is null or a.numbering = $2)) as dead
from ack_state
where numbering not like '@%' and ($1::uuid is null or tenant_id = $1) and ($2::text is null or numbering = $2);

-- name: replay_counts
-- Replay requests of a tenant and of a service (null: of all) by status.
select q.status, count(*) as count from replay_requests q join ack_state a using (stream_id)
where ($1::uuid is null or a.tenant_id = $1) and ($2::text is null or a.numbering = $2) group by q.status;

-- name: replays
-- Replay requests, newest first.
select q.*, a.numbering as service, a.epoch, count(*) over () as total
from replay_requests q join ack_state a using (stream_id)
where ($1::uuid is null or a.tenant_id = $1) and ($2::text is null or q.status = $2) and ($3::text is null or a.numbering = $3)
order by q.id desc limit $4 offset $5;

-- name: replay_by_id
-- One replay request and its stream.
select q.*, a.tenant_id, a.numbering as service, a.epoch
from replay_requests q join ack_state a using (stream_id) where q.id = $1 and a.tenant_id = $2 and ($3::text is null or a.numbering = $3);

-- name: insert_manual_replay
-- Somebody asks for a range.
with made as (
    insert into replay_requests (stream_id, from_seq, to_seq, requested_by) values ($1, $2, $3, 'manual')
    returning id),
counted as (update ack_state set open_replays = open_replays + 1 where stream_id = $1)
select id from made;

-- name: dead_letters
-- Dead letters, newest first.
select d.*, a.numbering as service, a.epoch, count(*) over () as total
from dead_letters d join ack_state a using (stream_id)
where ($1::uuid is null or d.tenant_id = $1) and ($2::text is null or a.numbering = $2) and ($3::text is null or d.reason = $3)
  and ($6::bigint is null or d.id = $6)
order by d.id desc limit $4 offset $5;

-- name: delete_dead_letter
-- Somebody decided that it is not needed; its number stays signed off.
delete from dead_letters d using ack_state a
where d.id = $1 and d.tenant_id = $2 and a.stream_id = d.stream_id and ($3::text is null or a.numbering = $3);

-- name: reset_counters
-- The fault reset: counters go to zero; the ledger itself stays.
update ack_state set duplicates = 0, conflicts = 0 where duplicates > 0 or conflicts > 0;

-- name: delete_finished_replays
-- The fault reset: what is finished need not be seen any more.
delete from replay_requests where status in ('completed', 'lost');

-- name: proof
-- Every stream of the ledger as the proof needs it; for one service or all. The server's own only by name.
select a.stream_id, a.numbering as service, a.epoch, ack_till(a.received, a.lost) as ack_till,
       greatest(upper(a.received + a.lost) - 1, 0) as highest,
       numbers_in(a.received) as received, numbers_in(a.lost) as lost, numbers_in(a.expired) as expired,
       numbers_in(a.void) as void, a.duplicates, a.conflicts, a.start_seq
from ack_state a
where a.tenant_id = $1 and (a.numbering = $2 or $2::text is null and a.numbering not like '@%')
order by a.numbering, a.epoch;

-- name: tenants
-- Every tenant that the ledger knows.
select distinct tenant_id from ack_state order by tenant_id;

-- name: proof_of_buffer
-- How many of these buffered numbers, and of these in flight, the ledger does not know.
select numbers_in($2::text::int8multirange - received - lost) as buffered,
       numbers_in($3::text::int8multirange - received - lost - $2::text::int8multirange) as in_flight,
       numbers_in(received) as received, numbers_in(lost) as lost,
       greatest(upper(received + lost) - 1, 0) as highest
from ack_state where stream_id = $1;

-- name: ping
-- Whether the database answers and holds our schema.
select to_regclass('ack_state') is not null and to_regclass('tracehub_migrations') is not null;

-- name: VERIFY_TABLE
-- Where the islands of rows are collected: one range per unbroken run of numbers of a stream in a partition.
create temporary table verify_islands (
    stream_id bigint not null, first bigint not null, last bigint not null, rows bigint not null) on commit drop;

-- name: VERIFY_PARTITION
-- The islands of one partition, by its belt alone. {name} comes from the list of partitions.
insert into verify_islands
select stream_id, min(seq), max(seq), sum(copies)
from (select stream_id, seq, copies, seq - row_number() over (partition by stream_id order by seq) as island
      from (select stream_id, seq, count(*) as copies from {name} group by stream_id, seq) as numbers) as numbered
group by stream_id, island;

-- name: verify_differences
-- Every stream whose ledger and rows differ.
with present as (
    select stream_id, range_agg(int8range(first, last, '[]')) as numbers, sum(rows)::bigint as rows
    from verify_islands group by stream_id)
select coalesce(a.stream_id, p.stream_id) as stream_id, a.numbering as service, a.epoch,
       coalesce(p.rows, 0) as rows,
       coalesce(p.rows, 0) - numbers_in(coalesce(p.numbers, '{}')) as copies,
       numbers_in(coalesce(p.numbers, '{}') - coalesce(a.received, '{}')) as rows_unknown_to_ledger,
       numbers_in(coalesce(a.received, '{}') - coalesce(p.numbers, '{}') - coalesce(a.expired, '{}')
                  - coalesce(a.void, '{}')) as received_without_row,
       numbers_in(coalesce(a.received, '{}') * coalesce(a.lost, '{}')) as received_and_lost,
       numbers_in(coalesce(a.lost, '{}') - coalesce(l.numbers, '{}')) as lost_without_signature
from ack_state a
full join present p using (stream_id)
left join (select stream_id, range_agg(int8range(from_seq, to_seq, '[]')) as numbers
           from losses where found_at is null group by stream_id) as l on l.stream_id = a.stream_id
where coalesce(p.numbers, '{}') + coalesce(a.expired, '{}') + coalesce(a.void, '{}') <> coalesce(a.received, '{}')
   or coalesce(p.rows, 0) <> numbers_in(coalesce(p.numbers, '{}'))
   or not isempty(coalesce(a.received, '{}') * coalesce(a.lost, '{}'))
   or not isempty(coalesce(a.lost, '{}') - coalesce(l.numbers, '{}'))
order by 1;

-- name: verify_counts
-- What was looked at.
select (select count(*) from ack_state) as streams, (select coalesce(sum(rows), 0)::bigint from verify_islands) as rows;

-- name: verify_lock
-- Nobody stores while the ledger is rebuilt.
lock table ack_state in exclusive mode;

-- name: verify_repair
-- Rebuild the ledger from the rows: what has a row is received, what is received is not lost.
update ack_state a set
    received = coalesce(p.numbers, '{}') + a.expired + a.void,
    lost = a.lost - coalesce(p.numbers, '{}'),
    updated_at = clock_timestamp()
from ack_state b
left join (select stream_id, range_agg(int8range(first, last, '[]')) as numbers
           from verify_islands group by stream_id) as p on p.stream_id = b.stream_id
where a.stream_id = b.stream_id
  and (a.received is distinct from coalesce(p.numbers, '{}') + a.expired + a.void
       or not isempty(a.lost * coalesce(p.numbers, '{}')));

-- ---------------------------------------------------------------------------------------------------------
-- Reading logs (search.py adds the conditions).

-- name: select_logs
-- What a reader sees of an entry.
select tenant_id, door, service, level, severity, message, ts, created_at, id, trace_id, span_id, request_id, user_id,
       category, batch_id, app_id, environment, release, host, source, user_agent, attrs
from logs

-- name: stretch
-- Behind select_logs: a tenant's rows of ranges of a stream, in their order.
join unnest($2::bigint[], $3::bigint[]) as n(first, last) on stream_id = $1 and seq between n.first and n.last
where tenant_id = $4::text::uuid order by seq

-- name: count_logs
-- How many match, as far as it is worth counting: the conditions, the most.
select count(*) as n from (select from logs where {} limit {}) as matching

-- name: plan_logs
-- How many the planner expects, where counting would take too long: the conditions.
explain (format json) select from logs where {}

-- ---------------------------------------------------------------------------------------------------------
-- Keys and logins (keys.py).

-- name: keys_alive
-- Every key that is not revoked, also those that have expired: what they kept closed stays closed.
select id, digest, scopes, tenant_id, app_key, doors, rate, expires_at from api_keys where revoked_at is null;

-- name: logins_alive
-- Who is logged in, and with which key.
select digest, key_digest, expires_at from logins where expires_at > now();

-- name: insert_key
-- A new key; who asks sees what it became.
insert into api_keys (id, name, digest, scopes, tenant_id, app_key, doors, rate, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
returning id, name, scopes, tenant_id, app_key, doors, rate, expires_at, created_at;

-- name: list_keys
-- The keys of a tenant and of a service (null: of all), oldest first.
select id, name, scopes, tenant_id, app_key, doors, rate, expires_at, created_at
from api_keys
where revoked_at is null and ($1::uuid is null or tenant_id = $1) and ($2::text is null or app_key = $2)
order by created_at, id;

-- name: revoke_key
-- End a key, and who is logged in with it; no row: there is none of this id, tenant and service.
with ended as (
    update api_keys set revoked_at = coalesce(revoked_at, now())
    where id = $1 and ($2::uuid is null or tenant_id = $2) and ($3::text is null or app_key = $3)
    returning id, digest),
out as (delete from logins l using ended e where l.key_digest = e.digest)
select id from ended;

-- name: insert_login
-- Somebody logs in; of each key the newest logins stay, and what has expired goes.
with gone as (
    delete from logins l
    where l.expires_at <= now() or l.digest in (
        select o.digest from logins o where o.key_digest = $2 order by o.created_at desc offset $4::bigint))
insert into logins (digest, key_digest, expires_at) values ($1, $2, $3);

-- name: delete_login
-- Somebody logs out.
delete from logins where digest = $1;

-- ---------------------------------------------------------------------------------------------------------
-- Counting logs (counting.py puts the pieces together).

-- name: counts_of_rows
-- Entries counted row by row; grp is what they are grouped by.
select date_trunc('{interval}', ts, 'UTC') as moment, severity, {group} as grp, count(*) as entries
from logs where {where} group by 1, 2, 3

-- name: counts_of_hours
-- Entries as they were counted when they were stored.
select hour as moment, severity, service as grp, entries from log_counts where {where}

-- name: counts_of_days
-- The same by day.
select day as moment, severity, service as grp, entries from log_counts_daily where {where}

-- name: counts_of_changes
-- What is not folded yet.
select hour as moment, severity, service as grp, entries from log_count_changes where {where}

-- name: aggregate_counts
-- By bucket and group, severities and entries beside each other; what is not among the largest groups is one group.
with counted as (
    select moment as bucket, severity, {group} as grp, sum(entries)::bigint as entries
    from ({source}) as s group by 1, 2, 3 having sum(entries) > 0),
largest as (select coalesce(grp, '') as name, grp is null as is_null from counted group by grp
            order by sum(entries) desc, grp limit {groups})
select bucket, l.name is null as other, case when l.name is not null then c.grp end as grp,
       array_agg(severity) as severities, array_agg(entries) as entries
from counted c left join largest l on (l.name, l.is_null) = (coalesce(c.grp, ''), c.grp is null)
group by 1, 2, 3 limit {most}

-- name: counts_over_time
-- By bucket and severity.
select {bucket} as bucket, severity, sum(entries)::bigint as entries from ({source}) as s
group by 1, 2 having sum(entries) > 0

-- name: counts_over_time_by_group
-- A row for each bucket: groups, severities and entries beside each other, to be added up. One row for each group would
-- be half a million for a month of hours.
select {bucket} as bucket, array_agg(grp) as names, array_agg(severity) as severities, array_agg(entries) as entries
from (select * from ({source}) as s limit {most}) as s group by 1

-- name: largest_groups
-- The names with the most entries.
select grp from ({source}) as s group by 1 order by sum(entries) desc, grp limit {groups}

-- name: rest_as_one
-- Counts in which all groups but those named are one, without a name.
select moment, severity, case when grp = any({names}::text[]) then grp end as grp, sum(entries)::bigint as entries
from ({source}) as s group by 1, 2, 3

-- name: count_by_service
-- By service and severity.
select grp as service, severity, sum(entries)::bigint as entries from ({source}) as s
group by 1, 2 having sum(entries) > 0

-- name: count_total
-- All of it.
select sum(entries)::bigint as entries from ({source}) as s

-- name: service_names
-- Whose entries a tenant has.
select service from (
    select service, entries from log_counts_daily where ($1::text is null or tenant_id = $1::text::uuid)
    union all select service, entries from log_count_changes
    where ($1::text is null or tenant_id = $1::text::uuid)) as s
where $2::text is null or service = $2 group by 1 having sum(entries) > 0 order by service collate "C"

-- name: storage_share
-- What a tenant (null: all) has on the disk, and how many entries.
select coalesce(sum(bytes), 0)::bigint as bytes, coalesce(sum(entries), 0)::bigint as entries
from log_bytes where $1::text is null or tenant_id = $1::text::uuid

-- name: storage_share_of_service
-- The same of one service.
select coalesce(sum(c.bytes * b.density), 0)::bigint as bytes, coalesce(sum(c.entries), 0)::bigint as entries
from (select tenant_id, hour, bytes, entries from log_counts where service = $2
      union all select tenant_id, hour, bytes, entries from log_count_changes where service = $2) as c
join log_bytes b using (tenant_id, hour) where $1::text is null or tenant_id = $1::text::uuid

-- name: holes
-- Missing and lost ranges of a tenant's services (null: of all tenants) with the times of the entries beside them; what is over $6 ranges of a
-- stream and kind is one row without times.
with flying as (
    select tenant_id, service, epoch, numbers::int8multirange as numbers
    from unnest($7::uuid[], $3::text[], $4::bigint[], $5::text[]) as f(tenant_id, service, epoch, numbers)),
streams as (
    select a.stream_id, a.numbering as service, a.lost,
           missing_ranges(a.received, a.lost, coalesce(f.numbers, '{}'),
                          greatest(upper(a.received + a.lost) - 1, upper(f.numbers) - 1, 0)) as missing
    from ack_state a left join flying f on (f.tenant_id, f.service, f.epoch) = (a.tenant_id, a.numbering, a.epoch)
    where ($1::text is null or a.tenant_id = $1::text::uuid) and a.numbering not like '@%' and ($2::text[] is null or a.numbering = any($2))
      and (ranges_in(a.received) > 1 or lower(a.received) > 1 or not isempty(a.lost) or f.numbers is not null)),
ranges as (
    select s.stream_id, s.service, k.lost, u.r, row_number() over (partition by s.stream_id, k.lost order by u.r) as place
    from streams s, lateral (values (false, s.missing), (true, s.lost)) as k(lost, numbers), unnest(k.numbers) as u(r))
select service, lost, upper(r) - lower(r) as count,
       (select l.ts from logs l where l.stream_id = n.stream_id and l.seq = lower(r) - 1) as after,
       (select l.ts from logs l where l.stream_id = n.stream_id and l.seq = upper(r)) as before
from ranges n where place <= $6::bigint
union all
select service, lost, sum(upper(r) - lower(r))::bigint, null, null from ranges where place > $6::bigint
group by stream_id, service, lost

-- ---------------------------------------------------------------------------------------------------------
-- Retention (policies.py, retention.py). A row is released when it is older than $days and was written before them, too,
-- or when it stands before a position; {released} is that condition.

-- name: insert_policy
-- A tenant's policy; no row: it has one.
insert into retention_policies (id, tenant_id, retention_days, max_size_gb, archive_enabled, archive_path)
values ($1, $2, $3, $4, $5, $6) on conflict do nothing returning *;

-- name: policies
-- The policy of a tenant (null: all), oldest first.
select * from retention_policies where $1::uuid is null or tenant_id = $1 order by created_at, id;

-- name: lock_policy
-- One policy by its id, to change it; of a tenant (null: of any).
select * from retention_policies where id = $1 and ($2::uuid is null or tenant_id = $2) for update;

-- name: update_policy
-- What became of it.
update retention_policies
set retention_days = $2, max_size_gb = $3, archive_enabled = $4, archive_path = $5, updated_at = clock_timestamp()
where id = $1 returning *;

-- name: delete_policy
-- The tenant has the defaults again.
delete from retention_policies where id = $1 and ($2::uuid is null or tenant_id = $2);

-- name: ask_run
-- Somebody wants a run; of several that want the one of the same moment one is heard.
insert into retention_runs (id, tenant_id, dry_run, due) values ($1, $2, $3, $4) on conflict (due) do nothing;

-- name: runs
-- The runs of a tenant (null: of all), newest first.
select * from retention_runs where $1::uuid is null or tenant_id = $1 order by asked_at desc, id desc limit $2;

-- name: has_open_run
-- Whether there is anything to do.
select exists (select from retention_runs where finished_at is null);

-- name: retention_lock
-- One run at a time; held by the connection that does all of it, so it is lost with it.
select pg_try_advisory_lock(7310, 3);

-- name: retention_unlock
-- It is done.
select pg_advisory_unlock(7310, 3);

-- name: take_run
-- The run that waits longest begins, or goes on.
update retention_runs set started_at = coalesce(started_at, clock_timestamp())
where id = (select id from retention_runs where finished_at is null order by asked_at, id limit 1) returning *;

-- name: finish_run
-- A run is over.
update retention_runs set finished_at = clock_timestamp(), tenants = $2, error = $3 where id = $1;

-- name: finish_dry_run
-- What a run would have done.
update retention_runs set archived = $2, deleted_rows = $3, dropped_partitions = $4 where id = $1;

-- name: emptied_by
-- What a run still has to drop and to forget.
select emptied from retention_runs where id = $1;

-- name: counted_tenants
-- Who has entries; in the hours of a partition (null: at all).
select distinct tenant_id from (
    select tenant_id, hour, entries from log_counts union all select tenant_id, hour, entries from log_count_changes) as c
where ($1::timestamptz is null or hour >= $1) and ($2::timestamptz is null or hour < $2)
group by tenant_id, hour having sum(entries) > 0;

-- name: counted_rows
-- How many entries are counted in the hours of a partition.
select coalesce(sum(entries), 0)::bigint from (
    select entries from log_counts where hour >= $1 and hour < $2
    union all select entries from log_count_changes where hour >= $1 and hour < $2) as c;

-- name: shares
-- What each tenant has on the disk.
select tenant_id, sum(bytes) as bytes from log_bytes group by 1;

-- name: hours_of
-- What tenants have there together, by hour.
select hour, sum(entries)::bigint as entries, sum(bytes) as bytes, max(density) as density
from log_bytes where tenant_id = any($1) group by 1 order by 1;

-- name: RETENTION_RELEASED
-- The condition, of the row l and the release r.
(l.ts < r.cutoff and l.created_at < r.cutoff or (l.ts, l.id) <= (r.until, r.until_id))

-- name: RETENTION_RELEASES
-- The releases that a query is given, as a table.
(select tenant_id::uuid as tenant_id, 'epoch'::timestamptz + cutoff * interval '1 millisecond' as cutoff,
        'epoch'::timestamptz + until * interval '1 millisecond' as until, until_id::uuid as until_id
 from unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[]) as g(tenant_id, cutoff, until, until_id))

-- name: RETENTION_ALL_RELEASED
-- Whether no row of a partition must stay.
select not exists (select from {name} l left join {releases} r using (tenant_id)
                   where r.tenant_id is null or not {released});

-- name: RETENTION_COUNT
-- How many rows of a partition are released, by tenant.
select l.tenant_id, count(*) as entries from {name} l join {releases} r using (tenant_id) where {released} group by 1;

-- name: RETENTION_HOURS
-- How many rows are released, by hour.
select date_trunc('hour', l.ts, 'UTC') as hour, count(*) as entries from logs l join {releases} r using (tenant_id)
where {released} group by 1;

-- name: RETENTION_TIP
-- The last row of an hour that goes, so that $7 counted bytes go of those that are not released yet. A row weighs what it
-- takes out of the counts: the average of its kind.
with kinds as (
    select tenant_id, service, severity, greatest(sum(bytes), 0) / sum(entries) as weight
    from (select * from log_counts union all select * from log_count_changes) as c
    where hour = $5::timestamptz group by 1, 2, 3 having sum(entries) > 0)
select ts, id from (
    select l.ts, l.id, sum(k.weight) over (order by l.ts, l.id rows between unbounded preceding and 1 preceding) as before
    from logs l join {releases} r using (tenant_id) left join kinds k using (tenant_id, service, severity)
    where l.ts >= $5::timestamptz and l.ts < $6::timestamptz and not {released}) as rows
where coalesce(before, 0) < $7::double precision order by ts desc, id desc limit 1;

-- name: RETENTION_KEYS
-- The next released rows of a tenant in a partition, by their keys.
select l.stream_id, l.seq, l.ts, l.id from {name} l join {releases} r using (tenant_id)
where l.tenant_id = $5::text::uuid and l.ts >= $6::timestamptz and (l.ts, l.id) > ($6::timestamptz, $7::uuid)
  and l.ts <= greatest(r.cutoff, r.until) and {released}
order by l.ts, l.id limit $8;

-- name: RETENTION_ROWS
-- The same with all that is in them.
select l.stream_id, l.seq, l.tenant_id, l.door, l.service, l.level, l.severity, l.message, l.ts, l.created_at, l.id,
       l.trace_id, l.span_id, l.request_id, l.user_id, l.category, l.batch_id, l.app_id, l.environment, l.release, l.host,
       l.source, l.user_agent, l.attrs
from {name} l join {releases} r using (tenant_id)
where l.tenant_id = $5::text::uuid and l.ts >= $6::timestamptz and (l.ts, l.id) > ($6::timestamptz, $7::uuid)
  and l.ts <= greatest(r.cutoff, r.until) and {released}
order by l.ts, l.id limit $8;

-- name: note_density
-- What a byte takes in a partition, before rows of it go: the least that was seen, for only rows that come make it less.
with counts as (
    select bytes from log_counts where hour >= $2 and hour < $3
    union all select bytes from log_count_changes where hour >= $2 and hour < $3)
insert into retention_densities as d (partition, density)
select $1, pg_total_relation_size(format('%I', $1::text)::regclass) / sum(bytes) from counts having sum(bytes) > 0
on conflict (partition) do update set density = least(d.density, excluded.density);

-- name: noted_partitions
-- Partitions of which that was noted before.
select partition from retention_densities;

-- name: lock_ledger
-- Lock ledger rows in ascending order.
select stream_id from ack_state where stream_id = any($1::bigint[]) order by stream_id for update;

-- name: RETENTION_REMOVE
-- Delete rows, mark their numbers as expired, forget ids that clients gave, take them out of the counts. The ledger rows
-- are locked by the caller. Of what is counted of an hour its average goes with a row, so nothing is left of none.
with gone as (
    delete from {name} l using unnest($1::bigint[], $2::bigint[]) as k(stream_id, seq)
    where l.stream_id = k.stream_id and l.seq = k.seq
    returning l.stream_id, l.seq, l.tenant_id, l.id, l.ts, l.service, l.severity),
ledger as (
    update ack_state a set expired = a.expired + g.numbers, updated_at = clock_timestamp()
    from (select stream_id, range_agg(int8range(seq, seq + 1)) as numbers from gone group by 1) as g
    where a.stream_id = g.stream_id),
given as materialized (
    select e.tenant_id, e.id from entry_ids e join gone g using (tenant_id, id)
    order by e.tenant_id, e.id for update of e),
forgotten as (delete from entry_ids e using given g where (e.tenant_id, e.id) = (g.tenant_id, g.id)),
hours as (
    select tenant_id, date_trunc('hour', ts, 'UTC') as hour, service, severity, count(*) as entries
    from gone group by 1, 2, 3, 4),
standing as (
    select c.tenant_id, c.hour, c.service, c.severity, sum(c.entries) as entries, sum(c.bytes) as bytes
    from hours h join (select * from log_counts union all select * from log_count_changes) as c
         using (tenant_id, hour, service, severity)
    group by 1, 2, 3, 4),
counted as (
    insert into log_count_changes
    select tenant_id, hour, service, severity, -h.entries,
           -ceil(coalesce(s.bytes * least(h.entries / nullif(s.entries, 0)::numeric, 1), 0))::bigint
    from hours h left join standing s using (tenant_id, hour, service, severity))
select count(*) from gone;

-- name: count_removed
-- A run has deleted so many rows more.
update retention_runs set archived = archived + $2, deleted_rows = deleted_rows + $3 where id = $1 and finished_at is null;

-- name: RETENTION_GATHER
-- What a partition holds, by stream and by hour: two tables of this connection.
drop table if exists retention_streams, retention_hours;
create temporary table retention_streams as
select stream_id, range_agg(int8range(first, last, '[]')) as numbers, sum(last - first + 1)::bigint as entries
from (select stream_id, min(seq) as first, max(seq) as last
      from (select stream_id, seq, seq - row_number() over (partition by stream_id order by seq) as island from {name}) as n
      group by stream_id, island) as islands
group by stream_id;
create temporary table retention_hours as
select tenant_id, date_trunc('hour', ts, 'UTC') as hour, service, severity, count(*) as entries
from {name} group by 1, 2, 3, 4

-- name: RETENTION_LOCK
-- Nobody waits long for us: who cannot have it at once comes again. {timeout_ms} is a number of ours.
set local lock_timeout = {timeout_ms}

-- name: lock_gathered
-- Lock the ledger rows of what was gathered, in ascending order.
select a.stream_id from ack_state a join retention_streams using (stream_id) order by a.stream_id for update of a;

-- name: RETENTION_LOCK_PARTITION
-- Nobody stores into this partition, or reads it. {name} comes from the list.
lock table {name} in access exclusive mode

-- name: gathered
-- How many rows that were, counted both ways.
select (select coalesce(sum(entries), 0)::bigint from retention_streams) as by_stream,
       (select coalesce(sum(entries), 0)::bigint from retention_hours) as by_hour;

-- name: expire_gathered
-- All of it is expired, and out of the counts.
with ledger as (
    update ack_state a set expired = a.expired + g.numbers, updated_at = clock_timestamp()
    from retention_streams g where a.stream_id = g.stream_id)
insert into log_count_changes
select tenant_id, hour, service, severity, -min(h.entries), -sum(c.bytes)
from retention_hours h join (select * from log_counts union all select * from log_count_changes) as c
     using (tenant_id, hour, service, severity)
group by 1, 2, 3, 4;

-- name: RETENTION_TRUNCATE
-- The rows of a partition go.
truncate {name}

-- name: note_emptied
-- A run has emptied a partition.
update retention_runs set archived = archived + $2, deleted_rows = deleted_rows + $3, emptied = emptied || $4::text
where id = $1 and finished_at is null;

-- name: retention_lock_logs
-- Nobody stores or reads for as long as one empty partition is dropped.
lock table only logs in access exclusive mode;

-- name: RETENTION_IS_EMPTY
-- Whether it still is.
select not exists (select from {name});

-- name: RETENTION_DROP
-- Drop an empty partition. {name} comes from the list.
drop table {name}

-- name: note_dropped
-- It is gone, and so is what was known of it.
with forgotten as (delete from retention_densities where partition = $2)
update retention_runs set dropped_partitions = dropped_partitions + 1 where id = $1;

-- name: ids_to_check
-- Ids that clients gave, of the times of a dropped partition; who uses one just now is left alone.
select tenant_id, id, ts from entry_ids
where (tenant_id, id) > ($1::uuid, $2::uuid) and ts >= $3 and ts < $4
order by tenant_id, id limit $5 for update skip locked;

-- name: forget_ids
-- Those of these that have no row are forgotten; the caller holds them.
delete from entry_ids e using unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as k(tenant_id, id, ts)
where (e.tenant_id, e.id) = (k.tenant_id, k.id)
  and not exists (select from logs l where (l.tenant_id, l.ts, l.id) = (k.tenant_id, k.ts, k.id));

-- name: take_over_ids
-- Ids whose rows have expired stand for the entries that come now.
update entry_ids e set ts = 'epoch'::timestamptz + c.ts_ms * interval '1 millisecond'
from unnest($1::text[]::uuid[], $2::uuid[], $3::bigint[]) as c(tenant_id, id, ts_ms)
where (e.tenant_id, e.id) = (c.tenant_id, c.id);

-- name: drop_empty_counts
-- Hours of which nothing is left are not kept.
with empty as materialized (
    select tenant_id, hour, service, severity from log_counts where entries = 0
    order by tenant_id, hour, service, severity for update)
delete from log_counts c using empty e
where (c.tenant_id, c.hour, c.service, c.severity) = (e.tenant_id, e.hour, e.service, e.severity) and c.entries = 0

-- name: drop_empty_days
-- Days of which nothing is left are not kept either.
with empty as materialized (
    select tenant_id, day, service, severity from log_counts_daily where entries = 0
    order by tenant_id, day, service, severity for update)
delete from log_counts_daily c using empty e
where (c.tenant_id, c.day, c.service, c.severity) = (e.tenant_id, e.day, e.service, e.severity) and c.entries = 0

-- Alerts and their deliveries (alerts.py). A moment is Unix milliseconds of the caller.

-- name: alerts_enabled
-- Every alert that is on, of all tenants.
select * from alerts where enabled order by id;

-- name: list_alerts
-- The alerts of a tenant and of a service (null: of all), oldest first.
select * from alerts
where ($1::text is null or tenant_id = $1::text::uuid) and ($2::text is null or app_key = $2) order by created_at, id;

-- name: alert_by_id
-- One alert, as far as this tenant and service (null: any) reach.
select * from alerts
where id = $1 and ($2::text is null or tenant_id = $2::text::uuid) and ($3::text is null or app_key = $3);

-- name: alert_lock
-- Who makes alerts of a tenant does so one after the other, so that nobody makes one too many.
select pg_advisory_xact_lock(7311, hashtext($1));

-- name: insert_alert
-- A new alert, unless the tenant has the most already.
insert into alerts (id, tenant_id, app_key, name, description, enabled, filter, threshold, window_mins, severity,
                    cooldown_mins, channels, created_at, updated_at)
select $1, $2::text::uuid, $3, $4, $5, $6, $7::text::jsonb, $8, $9, $10, $11, $12::text::jsonb, m.at, m.at
from (select 'epoch'::timestamptz + $13::bigint * interval '1 millisecond' as at) as m
where (select count(*) from alerts where tenant_id = $2::text::uuid) < $14
returning *;

-- name: update_alert
-- An alert as it is from now on, if it is still what was read; else no row, and the caller reads it again.
update alerts set name = $3, description = $4, enabled = $5, filter = $6::text::jsonb, threshold = $7, window_mins = $8,
    severity = $9, cooldown_mins = $10, channels = $11::text::jsonb,
    updated_at = greatest('epoch'::timestamptz + $12::bigint * interval '1 millisecond',
                          updated_at + interval '1 millisecond')
where id = $1 and updated_at = 'epoch'::timestamptz + $2::bigint * interval '1 millisecond'
returning *;

-- name: delete_alert
-- An alert and its deliveries go.
delete from alerts
where id = $1 and ($2::text is null or tenant_id = $2::text::uuid) and ($3::text is null or app_key = $3);

-- name: alert_reaches
-- How many match, as far as it matters: the conditions, the most.
select count(*) as n from (select from logs where {} limit {}) as matching;

-- name: claim_alert
-- Trigger an alert and write down its deliveries, in one step; no row: somebody else did, or it was changed, or is off.
-- Who comes second waits here for the first, and finds it cooling.
with claimed as (
    update alerts a set last_triggered = m.at
    from (select 'epoch'::timestamptz + $2::bigint * interval '1 millisecond' as at) as m
    where a.id = $1 and a.enabled and a.updated_at = 'epoch'::timestamptz + $6::bigint * interval '1 millisecond'
      and (a.last_triggered is null or a.last_triggered <= m.at - a.cooldown_mins * interval '1 minute')
    returning a.id, m.at),
made as (
    insert into alert_deliveries (id, alert_id, channel, body, created_at, next_attempt_at)
    select d.id, c.id, d.channel, d.body, c.at, c.at
    from claimed c, unnest($3::text[]::uuid[], $4::text[]::jsonb[], $5::bytea[]) as d(id, channel, body))
select id from claimed;

-- name: insert_deliveries
-- Deliveries that nothing triggered: tests.
insert into alert_deliveries (id, alert_id, channel, body, created_at, next_attempt_at)
select d.id, $1, d.channel, d.body, m.at, m.at
from unnest($3::text[]::uuid[], $4::text[]::jsonb[], $5::bytea[]) as d(id, channel, body),
     (select 'epoch'::timestamptz + $2::bigint * interval '1 millisecond' as at) as m;

-- name: list_deliveries
-- The deliveries of an alert, newest first.
select id, alert_id, channel ->> 'type' as type, status, attempts, http_status, error, created_at, next_attempt_at,
       finished_at
from alert_deliveries where alert_id = $1 order by created_at desc, id desc limit $2 offset $3;

-- name: take_deliveries
-- Deliveries that are due become this worker's until their lease ends: at most so many.
update alert_deliveries d
set attempts = d.attempts + 1, next_attempt_at = 'epoch'::timestamptz + $2::bigint * interval '1 millisecond'
from (select id from alert_deliveries
      where status = 'pending' and next_attempt_at <= 'epoch'::timestamptz + $1::bigint * interval '1 millisecond'
      order by next_attempt_at limit $3 for update skip locked) as due
where d.id = due.id
returning d.id, d.alert_id, d.channel, d.body, d.attempts;

-- name: settle_delivery
-- What became of an attempt; not of one whose lease ended and that somebody else has taken.
update alert_deliveries set status = $3, http_status = $4, error = $5,
    next_attempt_at = 'epoch'::timestamptz + $6::bigint * interval '1 millisecond',
    finished_at = 'epoch'::timestamptz + $7::bigint * interval '1 millisecond'
where id = $1 and attempts = $2 and status = 'pending';

-- name: disable_channel
-- A receiver wants no more: the channel is off until somebody sends the list again without that word.
update alerts a set updated_at = greatest('epoch'::timestamptz + $3::bigint * interval '1 millisecond',
                                          a.updated_at + interval '1 millisecond'),
    channels = (select jsonb_agg(case when c = $2::text::jsonb then c || '{"disabled": true}' else c end order by n)
                from jsonb_array_elements(a.channels) with ordinality as o(c, n))
where a.id = $1 and a.channels @> jsonb_build_array($2::text::jsonb);

-- name: forget_deliveries
-- Deliveries are kept for 30 days.
delete from alert_deliveries where created_at < now() - interval '30 days';
