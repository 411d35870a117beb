/** What was stored before, from the server, page by page. */

import { useCallback, useEffect, useRef, useState } from "react";
import { ask, Refusal } from "./api";
import type { LogEntry } from "./types";

/** What the ledger knows of the time and the services that were asked for. */
export interface Completeness {
  complete: boolean;
  missing: number;
  lost: number;
  inFlight: number;
  services: { service: string; missing: number; lost: number; inFlight: number }[];
}

interface LogPage {
  data: { entries: LogEntry[]; has_more: boolean; next_cursor: string | null; total_count: number | null };
  meta?: { estimated?: boolean; completeness?: Completeness };
}

const PAGE = 200;
export const HISTORY_MAX = 100_000;

interface Found {
  entries: LogEntry[];
  cursor: string | null; // of the next page
  total: number | null; // all that match, those not yet fetched as well
  estimated: boolean; // the total is
  known: Completeness | undefined;
  error: Refusal | undefined;
}

export interface History extends Found {
  query: string;
  done: boolean; // nothing older is there
  full: boolean; // no more is kept here
  loading: boolean;
  more: () => void;
}

const NOTHING: Found = { entries: [], cursor: "", total: null, estimated: false, known: undefined, error: undefined };

/** Newest first; `more` fetches the next page. A new query begins anew. */
export function useHistory(query: string): History {
  const [state, setState] = useState({ ...NOTHING, query, loading: false });
  const busy = useRef<string | null>(null);
  const now = state.query === query ? state : { ...NOTHING, query, loading: false };
  const more = useCallback(async () => {
    if (busy.current === query || now.cursor === null || now.entries.length >= HISTORY_MAX) return;
    busy.current = query;
    setState({ ...now, loading: true });
    const put = (next: Partial<Found>) => setState((before) => (before.query === query ? { ...now, ...next, loading: false } : before));
    try {
      const isFirst = now.cursor === "";
      const paging = new URLSearchParams({ page_size: String(PAGE), cursor: now.cursor, ...(isFirst ? { count: "true" } : {}) });
      const { data, meta } = await ask<LogPage>(`/api/v1/logs?${query}${query && "&"}${paging}`);
      put({
        entries: [...now.entries, ...data.entries],
        cursor: data.next_cursor,
        error: undefined,
        known: meta?.completeness,
        ...(isFirst ? { total: data.total_count, estimated: meta?.estimated ?? false } : {}),
      });
    } catch (reason) {
      put({ error: reason as Refusal });
    } finally {
      if (busy.current === query) busy.current = null;
    }
  }, [query, now]);
  const first = useRef(more);
  first.current = more;
  useEffect(() => void first.current(), [query]);
  return { ...now, done: now.cursor === null, full: now.entries.length >= HISTORY_MAX, more: () => void more() };
}
