/** Counts over time and by field, as bars and facets. Pure, but for the hooks at the end. */

import { useEffect, useState } from "react";
import { ask, type Refusal } from "./api";
import { type Filter, queryOf } from "./question";

export interface Bucket {
  bucket: string;
  count: number;
  level_counts: Record<string, number>;
  group?: string | null;
}

export interface Bar {
  from: number; // ms
  to: number; // ms, not included
  calm: number;
  warn: number;
  error: number;
}

export interface Facet {
  value: string;
  count: number;
}

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS; // entries may be so much ahead
const INTERVALS = [["minute", 60_000], ["hour", HOUR_MS], ["day", DAY_MS]] as const;
type Interval = (typeof INTERVALS)[number][0];
const BARS_MAX = 120;
const FACETS_MAX = 10;
const OTHER = "__other__"; // what the server calls all beyond the largest groups
const ALWAYS = { start: "2000-01-01T00:00:00Z", end: "2100-01-01T00:00:00Z" };

/** The shortest of the server's intervals by which a span has no more bars than may be added up. */
export function intervalFor(spanMs: number): Interval {
  return (INTERVALS.find(([, ms]) => spanMs / ms <= 4 * BARS_MAX) ?? INTERVALS[2])[0];
}

/** Bars of one width from the first to the last moment, also where nothing was; at most BARS_MAX. */
export function barsOf(buckets: readonly Bucket[], interval: Interval, bounds: readonly [number | null, number | null]): Bar[] {
  const times = buckets.map((bucket) => Date.parse(bucket.bucket));
  if (times.length === 0) return [];
  const step = INTERVALS.find(([name]) => name === interval)![1];
  const first = Math.floor(Math.min(bounds[0] ?? Infinity, times[0]!) / step) * step;
  const last = Math.max(bounds[1] ?? -Infinity, times.at(-1)!);
  const steps = Math.floor((last - first) / step) + 1;
  const width = Math.ceil(steps / BARS_MAX) * step;
  const bars: Bar[] = Array.from({ length: Math.ceil((steps * step) / width) }, (_, n) => ({ from: first + n * width, to: first + (n + 1) * width, calm: 0, warn: 0, error: 0 }));
  buckets.forEach(({ count, level_counts: { WARN = 0, ERROR = 0, FATAL = 0 } }, n) => {
    const bar = bars[Math.floor((times[n]! - first) / width)]!;
    bar.warn += WARN;
    bar.error += ERROR + FATAL;
    bar.calm += count - WARN - ERROR - FATAL;
  });
  return bars;
}

/** The largest groups of all buckets; entries without a value are nobody's. */
export function facetsOf(buckets: readonly Bucket[]): Facet[] {
  const sums = new Map<string, number>();
  for (const { group, count } of buckets) if (group && group !== OTHER) sums.set(group, (sums.get(group) ?? 0) + count);
  return largest(sums);
}

function largest(counts: Iterable<[string, number]>): Facet[] {
  return [...counts]
    .map(([value, count]) => ({ value, count }))
    .sort((a, b) => b.count - a.count || (a.value < b.value ? -1 : 1))
    .slice(0, FACETS_MAX);
}

export interface Counted<T> {
  value: T | undefined;
  error: Refusal | undefined;
}

/** Asks anew for each question; what was found stands until the next answer. */
function useFound<T>(key: string | null, find: () => Promise<T>): Counted<T> {
  const [state, setState] = useState<Counted<T>>({ value: undefined, error: undefined });
  useEffect(() => {
    if (key === null) return;
    let alive = true;
    find().then(
      (value) => alive && setState({ value, error: undefined }),
      (reason) => alive && setState({ value: undefined, error: reason as Refusal }),
    );
    return () => {
      alive = false;
    };
    // The key says all that `find` depends on.
    // eslint-disable-next-line
  }, [key]);
  return state;
}

async function counted(filter: Filter, interval: Interval, group?: string): Promise<Bucket[]> {
  const body = { ...filter, ...(group ? { group_by: group } : {}) };
  return (await ask<{ data: Bucket[] }>(`/api/v1/logs/aggregate?interval=${interval}`, body)).data;
}

/** Entries over time. Without bounds the days say first how long there was anything at all. */
export function useBars(filter: Filter, now: number): Counted<Bar[]> {
  return useFound(JSON.stringify([filter, now]), async () => {
    const start = filter.start ? Math.max(Date.parse(String(filter.start)), Date.parse(ALWAYS.start)) : null;
    const end = filter.end ? Math.min(Date.parse(String(filter.end)), now + DAY_MS) : null;
    if (start !== null) {
      const until = end ?? now;
      if (until < start) return [];
      const interval = intervalFor(until - start);
      const asked = { ...filter, start: new Date(start).toISOString(), ...(end === null ? {} : { end: new Date(end).toISOString() }) };
      return barsOf(await counted(asked, interval), interval, [start, until]);
    }
    const days = await counted(filter, "day");
    if (days.length === 0) return [];
    const [first, last] = [Date.parse(days[0]!.bucket), Date.parse(days.at(-1)!.bucket) + DAY_MS];
    let [buckets, interval]: [Bucket[], Interval] = [days, intervalFor(last - first)];
    while (interval !== "day") {
      buckets = await counted({ ...filter, start: new Date(first).toISOString() }, interval);
      const span = Date.parse(buckets.at(-1)?.bucket ?? "") - Date.parse(buckets[0]?.bucket ?? "");
      if (interval === "minute" || !(span <= HOUR_MS)) break;
      interval = "minute";
    }
    return barsOf(buckets, interval, [null, null]);
  });
}

interface Stats {
  data: { level_counts: Record<string, number>; service_counts: Record<string, number> };
}

/** How many there are by service and by level. */
export function useStats(filter: Filter, now: number): Counted<{ services: Facet[]; levels: Facet[] }> {
  return useFound(JSON.stringify([filter, now]), async () => {
    const { data } = await ask<Stats>(`/api/v1/logs/stats?${queryOf({ ...ALWAYS, ...filter })}`);
    return { services: largest(Object.entries(data.service_counts)), levels: largest(Object.entries(data.level_counts)) };
  });
}

/** The most frequent values of a field; not asked for while `open` is false. */
export function useFacets(filter: Filter, now: number, field: string, open: boolean): Counted<Facet[]> {
  return useFound(open ? JSON.stringify([filter, now, field]) : null, async () => facetsOf(await counted(filter, "day", field)));
}
