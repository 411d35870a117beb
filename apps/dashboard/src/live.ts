/**
 * The live side: one Socket.IO connection, what it says now, and what it said in the last hour.
 * Everything here is bounded: series by SERIES_MAX points, log rows by LOGS_MAX, events by EVENTS_MAX.
 */

import { io } from "socket.io-client";
import { ask } from "./api";
import { LogRing } from "./logring";
import { store } from "./store";
import type { Fault, LogEntry, Snapshot } from "./types";

export const SERIES_MAX = 1_800; // an hour at one snapshot in two seconds
export const LOGS_MAX = 100_000;
const EVENTS_MAX = 500;
const TELL_MS = 200;
const INSTANT = new Set(["flush_queue", "reset"]); // they end when they begin

export interface Connection {
  phase: "connecting" | "live" | "lost";
  since: number;
}

export interface Happened {
  at: number;
  kind: "fault" | "fault-over" | "crash" | "recovery" | "replay";
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
export const logs = new LogRing(LOGS_MAX);
export const logsVersion = store(0);

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
  if (event === "replay:completed") {
    const { service, from, to, count } = data as { service: string; from: number; to: number; count: number };
    return { at, kind: "replay", text: `${service}: ${from} – ${to} replayed (${count})` };
  }
  if (event === "sim:control") {
    const fault = data as Fault;
    const over = !fault.active && !INSTANT.has(fault.action);
    return { at, kind: over ? "fault-over" : "fault", text: `${fault.action} ${over ? "is over" : fault.active ? "started" : "done"}` };
  }
  return undefined;
}

/** What was before the page was opened goes before what it has seen itself. */
export function before(remembered: Remembered, own: Series): Series {
  const first = own.at[0] ?? Infinity;
  const keep = remembered.at.filter((at) => at / 1000 < first).length;
  const joined = <T>(old: T[], now: T[]) => [...old.slice(0, keep), ...now].slice(-SERIES_MAX);
  return {
    at: joined(remembered.at.map((at) => at / 1000), own.at),
    received: joined(remembered.received, own.received),
    stored: joined(remembered.stored, own.stored),
    logs: joined(remembered.logs, own.logs),
    retry: joined(remembered.retry, own.retry),
    oldest: joined(remembered.oldestMs.map((ms) => (ms === null ? null : ms / 1000)), own.oldest),
  };
}

async function remember(): Promise<void> {
  try {
    const remembered = await ask<Remembered>("/metrics/series");
    series.update((own) => before(remembered, own));
    const first = events.get()[0]?.at ?? Infinity;
    const old = remembered.events.filter((e) => e.at < first).flatMap((e) => wordsFor(e.event, e.data, e.at) ?? []);
    events.update((own) => [...old, ...own].slice(-EVENTS_MAX));
  } catch {
    // The charts then begin with this page.
  }
}

function taken(next: Snapshot): void {
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

export function connect(): void {
  void remember();
  const socket = io({ transports: ["websocket"], reconnectionDelay: 300, reconnectionDelayMax: 3_000 });
  const phase = (next: Connection["phase"]) => {
    if (connection.get().phase !== next) connection.set({ phase: next, since: Date.now() });
  };
  socket.on("connect", () => phase("live"));
  socket.on("disconnect", () => phase("lost"));
  socket.on("connect_error", () => phase("lost"));
  socket.on("metrics:snapshot", taken);
  socket.on("log:new", (entry: LogEntry) => {
    logs.push(entry);
    tellLogs();
  });
  socket.on("log:skipped", ({ count }: { count: number }) => {
    logs.skipped += count;
    tellLogs();
  });
  for (const event of ["worker:crashed", "worker:recovered", "replay:completed", "sim:control"])
    socket.on(event, (data: unknown) => happened(wordsFor(event, data, Date.now())));
  socket.on("sim:control", (fault: Fault) =>
    faults.update((now) => {
      const others = now.filter((f) => f.action !== fault.action);
      return fault.active ? [...others, fault] : others;
    }),
  );
}
