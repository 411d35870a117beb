/**
 * The live side: one Socket.IO connection, what it says now, and what it said in the last hour.
 * Everything here is bounded: series by SERIES_MAX points, log rows by LOGS_MAX, events by EVENTS_MAX.
 */

import { io } from "socket.io-client";
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
  logs: number[];
  retry: number[];
  oldest: number[]; // seconds
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

function happened(kind: Happened["kind"], text: string, alone = false): void {
  events.update((before) => [...before.slice(1 - EVENTS_MAX), { at: Date.now(), kind, text, alone }]);
}

function taken(next: Snapshot): void {
  snapshot.set(next);
  faults.set(next.faults);
  const at = Date.parse(next.ts) / 1000;
  series.update((s) => {
    if (at <= (s.at.at(-1) ?? 0)) return s;
    const push = (list: number[], value: number) => [...list.slice(1 - SERIES_MAX), value];
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
  socket.on("worker:crashed", (e: { worker: string; recoversInMs: number | null }) =>
    happened("crash", e.recoversInMs === null ? `${e.worker} crashed` : `${e.worker} crashed; back in ${e.recoversInMs / 1000} s`, e.recoversInMs === null),
  );
  socket.on("worker:recovered", (e: { worker: string; downMs: number }) =>
    happened("recovery", `${e.worker} is back after ${(e.downMs / 1000).toFixed(1)} s`),
  );
  socket.on("replay:completed", (e: { service: string; from: number; to: number; count: number }) =>
    happened("replay", `${e.service}: ${e.from} – ${e.to} replayed (${e.count})`),
  );
  socket.on("sim:control", (fault: Fault) => {
    const over = !fault.active && !INSTANT.has(fault.action);
    happened(over ? "fault-over" : "fault", `${fault.action} ${over ? "is over" : fault.active ? "started" : "done"}`);
    faults.update((now) => {
      const others = now.filter((f) => f.action !== fault.action);
      return fault.active ? [...others, fault] : others;
    });
  });
}
