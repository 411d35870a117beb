/** Searches that were given a name. They are kept by this browser; the address of one can be given to anybody. */

import { keep, kept } from "./kept";
import { store } from "./store";

export interface Saved {
  name: string;
  search: string; // the address after its question mark
}

const KEY = "tracehub:searches";
const SAVED_MAX = 100;
const NAME_MAX = 80;

function read(): Saved[] {
  try {
    const found: unknown = JSON.parse(kept(KEY) ?? "[]");
    const isSaved = (one: unknown): one is Saved => typeof (one as Saved)?.name === "string" && typeof (one as Saved)?.search === "string";
    return Array.isArray(found) ? found.filter(isSaved).slice(0, SAVED_MAX) : [];
  } catch {
    return []; // something else wrote there
  }
}

export const saved = store<readonly Saved[]>(read());

// Another tab of this browser has kept or forgotten one.
window.addEventListener("storage", (event) => event.key === KEY && saved.set(read()));

function put(next: readonly Saved[]): void {
  saved.set(next);
  keep(KEY, JSON.stringify(next));
}

/** Keeps a search under a name, in place of one that had it. */
export function save(name: string, search: string): void {
  const short = name.trim().slice(0, NAME_MAX);
  if (!short) return;
  const others = read().filter((one) => one.name !== short);
  put([...others, { name: short, search }].sort((a, b) => (a.name < b.name ? -1 : 1)).slice(0, SAVED_MAX));
}

export function forget(name: string): void {
  put(read().filter((one) => one.name !== name));
}
