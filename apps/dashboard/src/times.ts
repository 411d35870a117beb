/** Whether rows say how long ago something was, or when; kept by the browser. */

import { store } from "./store";

const KEPT = "tracehub:live:times";

export const relative = store(read());

export function turnTimes(): void {
  relative.set(!relative.get());
  try {
    localStorage.setItem(KEPT, relative.get() ? "relative" : "exact");
  } catch {
    // A browser that keeps nothing begins anew.
  }
}

function read(): boolean {
  try {
    return localStorage.getItem(KEPT) === "relative";
  } catch {
    return false;
  }
}
