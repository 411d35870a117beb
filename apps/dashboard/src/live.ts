/**
 * The live side: one Socket.IO connection, what it says now, and what it said in the last hour.
 * Everything here is bounded: series by SERIES_MAX points, log rows by LOGS_MAX, events by EVENTS_MAX.
 */

import { io } from "socket.io-client";
import { ask, logIn } from "./api";
import { LogRing } from "./logring";
import { Session } from "./session";
import { store } from "./store";
import type { Fault, LogEntry, Snapshot } from "./types";

export const SERIES_MAX = 1_800; // an hour at one snapshot in two seconds
export const LOGS_MAX = 100_000;
const LOG_CHARS_MAX = 200_000_000;
const EVENTS_MAX = 500;
const TELL_MS = 200;
const REFUSED_MS = 3_000;
const CATCH_UP_MAX = 1_000; // the server's largest page
const SEEN_MAX = 10_000; // so many of the newest rows are compared with it
const SAME_MS = 2_000; // an event heard here and remembered there differ by their clocks
const STALE_MS = 8_000; // snapshots come every two seconds
const INSTANT = new Set(["flush_queue", "reset"]); // they end when they begin

export interface Connection {
  phase: "connecting" | "live" | "silent" | "lost";
  since: number;
}

export interface Happened {
  at: number;
  kind: "fault" | "fault-over" | "crash" | "recovery";
  text: string;
  alone?: boolean; // a crash that nobody repairs
}

export interface Series {
  at: number[]; // Unix seconds
  received: number[];
  stored: number[];
  logs: (number | null)[];
  retry: (number | null)[];
  oldest: (number | null)[]; // seconds
}

/** What the server remembers of the last hour (GET /metrics/series); times in Unix ms. */
interface Remembered {
  at: number[];
  received: number[];
  stored: number[];
  logs: (number | null)[];
  retry: (number | null)[];
  oldestMs: (number | null)[];
  events: { at: number; event: string; data: unknown }[];
}

export const connection = store<Connection>({ phase: "connecting", since: Date.now() });
export const snapshot = store<Snapshot | null>(null);
export const series = store<Series>({ at: [], received: [], stored: [], logs: [], retry: [], oldest: [] });
export const events = store<readonly Happened[]>([]);
export const faults = store<readonly Fault[]>([]);
export const logs = new LogRing(LOGS_MAX, LOG_CHARS_MAX);
export const logsVersion = store(0);
export const session = new Session();
export const paused = store<number | null>(null); // arrival number of the first entry that waits

let telling = 0;

function tellLogs(): void {
  if (telling) return;
  telling = window.setTimeout(() => {
    telling = 0;
    logsVersion.update((n) => n + 1);
  }, TELL_MS);
}

function happened(next: Happened | undefined): void {
  if (next) events.update((before) => [...before.slice(1 - EVENTS_MAX), next]);
}

/** What an event says to people; undefined for those that say nothing. */
export function wordsFor(event: string, data: unknown, at: number): Happened | undefined {
  if (event === "worker:crashed") {
    const { worker, recoversInMs } = data as { worker: string; recoversInMs: number | null };
    const alone = recoversInMs === null;
    return { at, kind: "crash", text: alone ? `${worker} crashed` : `${worker} crashed; back in ${recoversInMs / 1000} s`, alone };
  }
  if (event === "worker:recovered") {
    const { worker, downMs } = data as { worker: string; downMs: number };
    return { at, kind: "recovery", text: `${worker} is back after ${(downMs / 1000).toFixed(1)} s` };
  }
  if (event === "sim:control") {
    const fault = data as Fault;
    const over = !fault.active && !INSTANT.has(fault.action);
    return { at, kind: over ? "fault-over" : "fault", text: `${fault.action} ${over ? "is over" : fault.active ? "started" : "done"}` };
  }
  return undefined;
}

/** What the server remembers, where the page has seen nothing itself: before it was opened, and while it was away. */
export function joined(remembered: Remembered, own: Series): Series {
  const rows = own.at.map((at, n): Row => [at, own.received[n]!, own.stored[n]!, own.logs[n]!, own.retry[n]!, own.oldest[n]!]);
  const seen = new Set(own.at.flatMap((at) => [Math.floor(at) - 1, Math.floor(at), Math.floor(at) + 1]));
  remembered.at.forEach((ms, n) => {
    if (seen.has(Math.floor(ms / 1000))) return;
    const oldest = remembered.oldestMs[n]!;
    rows.push([ms / 1000, remembered.received[n]!, remembered.stored[n]!, remembered.logs[n]!, remembered.retry[n]!, oldest === null ? null : oldest / 1000]);
  });
  rows.sort((a, b) => a[0] - b[0]);
  const kept = rows.slice(-SERIES_MAX);
  return {
    at: kept.map((r) => r[0]),
    received: kept.map((r) => r[1]),
    stored: kept.map((r) => r[2]),
    logs: kept.map((r) => r[3]),
    retry: kept.map((r) => r[4]),
    oldest: kept.map((r) => r[5]),
  };
}

type Row = [number, number, number, number | null, number | null, number | null];

async function remember(): Promise<void> {
  try {
    const remembered = await ask<Remembered>("/metrics/series");
    series.update((own) => joined(remembered, own));
    const said = remembered.events.flatMap((e) => wordsFor(e.event, e.data, e.at) ?? []);
    events.update((own) => {
      const isNew = (e: Happened) => !own.some((o) => o.text === e.text && Math.abs(o.at - e.at) < SAME_MS);
      return [...own, ...said.filter(isNew)].sort((a, b) => a.at - b.at).slice(-EVENTS_MAX);
    });
  } catch {
    // The charts then begin with this page.
  }
}

let skippedBefore: number | undefined; // what the server had left out when this page was opened

/** Entries that this page was not shown since it was opened. */
export function skippedSinceOpened(): number {
  const now = snapshot.get()?.live.skipped ?? 0;
  return logs.skipped + Math.max(0, now - (skippedBefore ?? now));
}

/** Begins anew with what comes from now on. */
export function clear(): void {
  logs.clear();
  session.clear();
  skippedBefore = snapshot.get()?.live.skipped;
  if (paused.get() !== null) paused.set(logs.total);
  tellLogs();
}

let heardAt = 0;

function taken(next: Snapshot): void {
  heardAt = Date.now();
  if (skippedBefore === undefined || next.live.skipped < skippedBefore) skippedBefore = next.live.skipped;
  snapshot.set(next);
  faults.set(next.faults);
  const at = Date.parse(next.ts) / 1000;
  series.update((s) => {
    if (at <= (s.at.at(-1) ?? 0)) return s;
    const push = <T>(list: T[], value: T) => [...list.slice(1 - SERIES_MAX), value];
    return {
      at: push(s.at, at),
      received: push(s.received, next.eps),
      stored: push(s.stored, next.epsStored),
      logs: push(s.logs, next.queue.logs.depth),
      retry: push(s.retry, next.queue.retry.depth),
      oldest: push(s.oldest, next.queue.logs.oldestMs / 1000),
    };
  });
}

function take(entry: LogEntry): void {
  logs.push(entry);
  session.push(entry);
  tellLogs();
}

/** What was stored while the connection was away, as far as one page holds it; the rest counts as left out. */
async function catchUp(): Promise<void> {
  const last = logs.byNumber(logs.total - 1);
  if (!last) return;
  const query = new URLSearchParams({ start: last.timestamp, order: "asc", page_size: String(CATCH_UP_MAX) });
  try {
    const { data } = await ask<{ data: { entries: LogEntry[]; total_count: number | null } }>(`/api/v1/logs?${query}`);
    const here = new Set<string>();
    for (let number = logs.total - 1; number >= Math.max(logs.firstNumber, logs.total - SEEN_MAX); number -= 1) here.add(logs.byNumber(number)!.id);
    for (const entry of data.entries) if (!here.has(entry.id)) take(entry);
    logs.skipped += Math.max(0, (data.total_count ?? 0) - data.entries.length);
  } catch {
    // They are under History all the same.
  }
}

export function connect(): void {
  const socket = io({ transports: ["websocket"], reconnectionDelay: 300, reconnectionDelayMax: 3_000 });
  const phase = (next: Connection["phase"]) => {
    if (connection.get().phase !== next) connection.set({ phase: next, since: Date.now() });
  };
  socket.on("connect", () => {
    heardAt = Date.now();
    phase("live");
    void remember();
    void catchUp();
  });
  // A backend that stands still keeps its connections.
  window.setInterval(() => {
    if (socket.connected) phase(Date.now() - heardAt > STALE_MS ? "silent" : "live");
  }, 1_000);
  socket.on("disconnect", (reason) => {
    phase("lost");
    // The server does this when a key has ended; then the next attempt is told so.
    if (reason === "io server disconnect") socket.connect();
  });
  socket.on("connect_error", (reason) => {
    phase("lost");
    if (reason.message === "unauthorized") logIn();
    else if (!socket.active) window.setTimeout(() => socket.connect(), REFUSED_MS); // refused for now
  });
  socket.on("metrics:snapshot", taken);
  socket.on("log:new", take);
  socket.on("log:skipped", ({ count }: { count: number }) => {
    logs.skipped += count;
    tellLogs();
  });
  for (const event of ["worker:crashed", "worker:recovered", "sim:control"])
    socket.on(event, (data: unknown) => happened(wordsFor(event, data, Date.now())));
  socket.on("sim:control", (fault: Fault) =>
    faults.update((now) => {
      const others = now.filter((f) => f.action !== fault.action);
      return fault.active ? [...others, fault] : others;
    }),
  );
}
