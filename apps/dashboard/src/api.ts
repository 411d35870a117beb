/** The HTTP side: JSON in, JSON out, and errors that say what to do. */

import { useCallback, useEffect, useRef, useState } from "react";
import { store } from "./store";

export class Refusal extends Error {
  constructor(
    message: string,
    readonly code: string,
    readonly status: number,
    readonly field?: string,
  ) {
    super(message);
  }
}

const TIMEOUT_MS = 10_000;
const ABSENT_MS = 30_000; // what is not there may have gone for good

/** The shape of the log service's answers. */
export interface Data<T> {
  data: T;
}

export async function ask<T>(path: string, body?: unknown, method = body === undefined ? "GET" : "POST"): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(path, {
      headers: {
        accept: "application/json",
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        // No form of another site can send it, so a change made with the login cookie is really ours.
        ...(method === "GET" ? {} : { "x-tracehub": "1" }),
      },
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
      cache: "no-store",
    });
  } catch {
    throw new Refusal("The server does not answer. It is asked again by itself.", "unreachable", 0);
  }
  if (answer.status === 204) return undefined as T;
  let said: unknown;
  try {
    said = await answer.json();
  } catch {
    throw new Refusal(`The server answered ${answer.status} without JSON.`, "invalid", answer.status);
  }
  if (answer.ok) return said as T;
  if (answer.status === 401) logIn();
  const error = (said as { error?: { code?: string; message?: string; field?: string } }).error ?? {};
  const text = error.message ?? `The server answered ${answer.status}.`;
  throw new Refusal(text, error.code ?? "error", answer.status, error.field);
}

/** Whether the page shows what cannot be shown again, and must not be left by itself. */
export const staying = store(false);

/** The key of this page has ended, or there never was one: to the log-in, and back here. */
export function logIn(): void {
  if (staying.get()) return;
  window.location.assign(`/login?ended=1&next=${encodeURIComponent(window.location.pathname + window.location.search)}`);
}

export interface Asked<T> {
  value: T | undefined;
  error: Refusal | undefined;
  again: () => void;
}

/** Asks at once, whenever the path changes, and every `everyMs`. Keeps the last good value while it fails. */
export function useAsked<T>(path: string | null, everyMs: number): Asked<T> {
  const [value, setValue] = useState<{ path: string; value: T }>();
  const [error, setError] = useState<Refusal>();
  const look = useRef<() => void>(() => undefined);
  useEffect(() => {
    if (path === null) return;
    let alive = true;
    let timer = 0;
    const run = async () => {
      window.clearTimeout(timer);
      let pause = everyMs;
      try {
        const found = await ask<T>(path);
        if (alive) {
          setValue({ path, value: found });
          setError(undefined);
        }
      } catch (reason) {
        if (alive) setError(reason as Refusal);
        if ((reason as Refusal).status === 404) pause = Math.max(everyMs, ABSENT_MS);
      }
      if (alive) timer = window.setTimeout(run, pause);
    };
    look.current = () => void run();
    void run();
    return () => {
      alive = false;
      window.clearTimeout(timer);
    };
  }, [path, everyMs]);
  const again = useCallback(() => look.current(), []);
  return { value: value?.path === path ? value.value : undefined, error, again };
}
