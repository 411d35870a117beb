/** The last `max` log entries in arrival order, in constant memory; `at(0)` is the oldest that is still here. */

import type { LogEntry } from "./types";

export class LogRing {
  skipped = 0; // entries that the server did not show
  total = 0; // entries that ever came
  private readonly entries: (LogEntry | undefined)[] = [];
  private first = 0;

  constructor(readonly max: number) {}

  get length(): number {
    return this.entries.length;
  }

  /** The arrival number (from 0) of the oldest entry. */
  get firstNumber(): number {
    return this.total - this.entries.length;
  }

  push(entry: LogEntry): void {
    if (this.entries.length < this.max) this.entries.push(entry);
    else {
      this.entries[this.first] = entry;
      this.first = (this.first + 1) % this.max;
    }
    this.total += 1;
  }

  at(index: number): LogEntry | undefined {
    if (index < 0 || index >= this.entries.length) return undefined;
    return this.entries[(this.first + index) % this.entries.length];
  }

  /** The entry of this arrival number, or undefined when it has gone. */
  byNumber(number: number): LogEntry | undefined {
    return this.at(number - this.firstNumber);
  }
}
