/** Whether rows say how long ago something was, or when; kept by the browser. */

import { keep, kept } from "./kept";
import { store } from "./store";

const KEPT = "tracehub:live:times";

export const relative = store(kept(KEPT) === "relative");

export function turnTimes(): void {
  relative.set(!relative.get());
  keep(KEPT, relative.get() ? "relative" : "exact");
}
