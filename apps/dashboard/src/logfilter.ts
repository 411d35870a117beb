/** Which entries of the ring match a filter, as arrival numbers; each entry is looked at once per filter. */

import type { LogRing } from "./logring";
import { LEVELS, PARTLY, type Question } from "./question";
import type { LogEntry } from "./types";

export interface Wanted extends Pick<Question, "service" | "levels" | "text" | "exact"> {
  whole?: boolean | undefined; // the service is named whole
}

export function matches(entry: LogEntry, { service, whole, levels, text, exact }: Wanted): boolean {
  return (
    (levels.length === 0 || levels.includes(levelOf(entry.severity))) &&
    (service === "" || (whole ? entry.service_name === service : contains(entry.service_name, service))) &&
    (text === "" || contains(entry.message, text)) &&
    Object.entries(exact).every(([name, value]) => (name === PARTLY ? contains(entry[name], value) : entry[name] === value))
  );
}

function contains(value: unknown, part: string): boolean {
  return typeof value === "string" && value.toLowerCase().includes(part.toLowerCase());
}

/** The name of a severity among LEVELS. */
export function levelOf(severity: number): string {
  return LEVELS.find(([, lowest, highest]) => severity >= lowest && severity <= highest)?.[0] ?? "info";
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
