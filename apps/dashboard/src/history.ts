/** Questions to the server about logs that were stored before. Pure, but for the hook at the end. */

import { useCallback, useEffect, useRef, useState } from "react";
import { ask, Refusal } from "./api";
import type { LogEntry } from "./types";

export interface LogPage {
  data: { entries: LogEntry[]; has_more: boolean; next_cursor: string | null };
}

export const LEAST: Record<number, string> = { 9: "INFO", 13: "WARN", 17: "ERROR", 21: "FATAL" };
export const SERVICES_MAX = 50; // the server takes so many values of one field
const PAGE = 200;
const AROUND = 15;
export const HISTORY_MAX = 100_000;

export interface Question {
  service: string; // part of a name, any case
  severity: number;
  text: string;
  trace: string;
  request: string;
  from: string; // local times as an input gives them, or empty
  to: string;
}

/** The query of GET /api/v1/logs. A part of a name stands for all known services that have it. */
export function queryOf(question: Question, services: readonly string[]): string {
  const query = new URLSearchParams();
  const part = question.service.toLowerCase();
  const meant = part ? services.filter((name) => name.toLowerCase().includes(part)).sort() : [];
  if (part) for (const name of meant.length > 0 && meant.length <= SERVICES_MAX ? meant : [question.service]) query.append("service", name);
  const least = LEAST[question.severity];
  if (least) query.set("min_level", least);
  if (question.text) query.set("search", question.text);
  if (question.trace) query.set("trace_id", question.trace);
  if (question.request) query.set("request_id", question.request);
  for (const [name, local] of [["start", question.from], ["end", question.to]] as const) {
    const at = new Date(local);
    if (local && !Number.isNaN(at.getTime())) query.set(name, at.toISOString());
  }
  return query.toString();
}

/** The two questions whose answers hold the lines around an entry; its own millisecond is in both. */
export function aroundPaths(entry: LogEntry): [string, string] {
  const common = { service: entry.service_name, page_size: String(AROUND), cursor: "" };
  const before = new URLSearchParams({ ...common, end: entry.timestamp });
  const after = new URLSearchParams({ ...common, start: entry.timestamp, order: "asc" });
  return [`/api/v1/logs?${before}`, `/api/v1/logs?${after}`];
}

/** All lines once, oldest first, the entry among them. */
export function around(before: LogEntry[], entry: LogEntry, after: LogEntry[]): LogEntry[] {
  const once = new Map([...before, entry, ...after].map((line) => [line.id, line]));
  const order = (line: LogEntry) => `${line.timestamp} ${line.id}`;
  return [...once.values()].sort((a, b) => (order(a) < order(b) ? -1 : 1));
}

export interface History {
  entries: LogEntry[];
  done: boolean; // nothing older is there
  full: boolean; // no more is kept here
  loading: boolean;
  error: Refusal | undefined;
  more: () => void;
}

const NOTHING = { query: "", entries: [] as LogEntry[], cursor: "" as string | null, loading: false, error: undefined as Refusal | undefined };

/** Newest first; `more` fetches the next page. A new query begins anew. */
export function useHistory(query: string): History {
  const [state, setState] = useState({ ...NOTHING, query });
  const busy = useRef<string | null>(null);
  const now = state.query === query ? state : { ...NOTHING, query };
  const more = useCallback(async () => {
    if (busy.current === query || now.cursor === null || now.entries.length >= HISTORY_MAX) return;
    busy.current = query;
    setState({ ...now, loading: true });
    try {
      const paging = new URLSearchParams({ page_size: String(PAGE), cursor: now.cursor });
      const { data } = await ask<LogPage>(`/api/v1/logs?${query}${query && "&"}${paging}`);
      setState((before) => (before.query === query ? { query, entries: [...now.entries, ...data.entries], cursor: data.next_cursor, loading: false, error: undefined } : before));
    } catch (reason) {
      setState((before) => (before.query === query ? { ...now, loading: false, error: reason as Refusal } : before));
    } finally {
      if (busy.current === query) busy.current = null;
    }
  }, [query, now]);
  const first = useRef(more);
  first.current = more;
  useEffect(() => void first.current(), [query]);
  return {
    entries: now.entries,
    done: now.cursor === null,
    full: now.entries.length >= HISTORY_MAX,
    loading: now.loading,
    error: now.error,
    more: () => void more(),
  };
}
