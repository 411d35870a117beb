/** Questions to the server about logs that were stored before. Pure, but for the hook at the end. */

import { useCallback, useEffect, useRef, useState } from "react";
import { ask, Refusal } from "./api";
import type { LogEntry } from "./types";

interface LogPage {
  data: { entries: LogEntry[]; has_more: boolean; next_cursor: string | null };
}

export const LEAST: Record<number, string> = { 9: "INFO", 13: "WARN", 17: "ERROR", 21: "FATAL" };
export const SERVICES_MAX = 50; // the server takes so many values of one field
const PAGE = 200;
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

/**
 * The query of GET /api/v1/logs; null when more services are meant than one question may name. A name that is
 * known means itself; anything else stands for all known names that it is part of.
 */
export function queryOf(question: Question, services: readonly string[]): string | null {
  const query = new URLSearchParams();
  const meant = servicesMeant(question.service, services);
  if (meant.length > SERVICES_MAX) return null;
  for (const name of meant) query.append("service", name);
  const least = LEAST[question.severity];
  if (least) query.set("min_level", least);
  if (question.text) query.set("search", question.text);
  if (question.trace) query.set("trace_id", question.trace);
  if (question.request) query.set("request_id", question.request);
  const [start, end] = [Date.parse(question.from), Date.parse(question.to)];
  if (!Number.isNaN(start)) query.set("start", new Date(start).toISOString());
  // An input knows whole seconds: the last one belongs to it.
  if (!Number.isNaN(end)) query.set("end", new Date(end + 999).toISOString());
  return query.toString();
}

/** The names that a word in the service field means; the word itself when no known name has it. */
export function servicesMeant(word: string, services: readonly string[]): string[] {
  if (!word || services.includes(word)) return word ? [word] : [];
  const meant = services.filter((name) => name.toLowerCase().includes(word.toLowerCase())).sort();
  return meant.length > 0 ? meant : [word];
}

/** The highest level of the choice that is not above a number, 0 for none: addresses may hold any number. */
export function levelOf(text: string | null): number {
  const number = Number(text) || 0;
  return Math.max(0, ...Object.keys(LEAST).map(Number).filter((level) => level <= number));
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
