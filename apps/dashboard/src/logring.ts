/**
 * The last log entries in arrival order, bounded twice: at most `max` of them, and at most `maxChars` characters
 * of what they say, for 100,000 huge messages would fill any machine. `at(0)` is the oldest that is still here.
 */

import type { LogEntry } from "./types";

export class LogRing {
  skipped = 0; // entries that the server did not show
  total = 0; // entries that ever came
  firstNumber = 0; // the arrival number (from 0) of the oldest entry
  private chars = 0;
  private readonly entries: (LogEntry | undefined)[] = [];

  constructor(
    readonly max: number,
    readonly maxChars = Infinity,
  ) {}

  get length(): number {
    return this.total - this.firstNumber;
  }

  push(entry: LogEntry): void {
    if (this.length === this.max) this.drop();
    this.entries[this.total % this.max] = entry;
    this.total += 1;
    this.chars += weight(entry);
    while (this.chars > this.maxChars && this.length > 1) this.drop();
  }

  /** Forgets all that is here; the numbers go on. */
  clear(): void {
    while (this.length > 0) this.drop();
    this.skipped = 0;
  }

  private drop(): void {
    const place = this.firstNumber % this.max;
    this.chars -= weight(this.entries[place]!);
    this.entries[place] = undefined;
    this.firstNumber += 1;
  }

  at(index: number): LogEntry | undefined {
    return this.byNumber(this.firstNumber + index);
  }

  /** The entry of this arrival number, or undefined when it has gone. */
  byNumber(number: number): LogEntry | undefined {
    return number >= this.firstNumber && number < this.total ? this.entries[number % this.max] : undefined;
  }
}

const SMALL = 200; // what the short fields of an entry take

function weight(entry: LogEntry): number {
  return SMALL + entry.message.length + (entry.metadata === undefined ? 0 : roughly(entry.metadata, 8));
}

/** About how many characters a value takes; below so many levels it is not looked at. */
function roughly(value: unknown, levels: number): number {
  if (typeof value === "string") return value.length;
  if (value === null || typeof value !== "object" || levels === 0) return 8;
  let sum = 0;
  for (const [key, child] of Object.entries(value)) sum += key.length + roughly(child, levels - 1);
  return sum;
}
