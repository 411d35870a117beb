/** What came to this page since it was opened or cleared: by level and by service. Pure. */

import { levelOf } from "./logfilter";
import type { LogEntry } from "./types";

export class Session {
  total = 0;
  private levels = new Map<string, number>();
  private services = new Map<string, number>();

  push(entry: LogEntry): void {
    this.total += 1;
    add(this.levels, levelOf(entry.severity));
    add(this.services, entry.service_name);
  }

  clear(): void {
    this.total = 0;
    this.levels.clear();
    this.services.clear();
  }

  ofLevel(name: string): number {
    return this.levels.get(name) ?? 0;
  }

  /** The services with the most entries, the largest first. */
  top(most: number): [string, number][] {
    return [...this.services].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)).slice(0, most);
  }
}

function add(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}
