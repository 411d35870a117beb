/** Which entries of the ring match a filter, as arrival numbers; each entry is looked at once per filter. */

import type { LogRing } from "./logring";
import type { LogEntry } from "./types";

export interface Wanted {
  service: string; // part of the name, any case; empty: all
  exact?: boolean; // the whole name
  severity: number; // at least; 0: all
  text: string; // part of the message, any case
  trace: string; // whole trace_id
  request: string; // whole request_id
}

export function matches(entry: LogEntry, wanted: Wanted): boolean {
  return (
    (wanted.severity === 0 || entry.severity >= wanted.severity) &&
    (wanted.service === "" || (wanted.exact ? entry.service_name === wanted.service : entry.service_name.toLowerCase().includes(wanted.service.toLowerCase()))) &&
    (wanted.text === "" || entry.message.toLowerCase().includes(wanted.text.toLowerCase())) &&
    (wanted.trace === "" || entry.trace_id === wanted.trace) &&
    (wanted.request === "" || entry.request_id === wanted.request)
  );
}

export class LogFilter {
  private key = "";
  private next = 0;
  private found: number[] = [];

  constructor(private readonly ring: LogRing) {}

  /** Arrival numbers below `until` that match and are still here, ascending. A new array when it changed. */
  matching(wanted: Wanted, until: number): number[] {
    const key = JSON.stringify(wanted);
    if (key !== this.key || until < this.next) {
      this.key = key;
      this.next = 0;
      this.found = [];
    }
    const first = this.ring.firstNumber;
    const fresh: number[] = [];
    for (let number = Math.max(this.next, first); number < until; number += 1) {
      const entry = this.ring.byNumber(number);
      if (entry && matches(entry, wanted)) fresh.push(number);
    }
    this.next = Math.max(this.next, until);
    let gone = 0;
    while (gone < this.found.length && this.found[gone]! < first) gone += 1;
    if (fresh.length > 0 || gone > 0) this.found = [...(gone ? this.found.slice(gone) : this.found), ...fresh];
    return this.found;
  }
}
