/** Keys that work anywhere on a page, but where somebody types. */

import { useEffect, useRef } from "react";

const TAKEN = "input, select, textarea, [contenteditable]";
const PRESSED = "button, summary, a"; // space and Enter are theirs

export function useKeys(keys: Record<string, () => void>): void {
  const now = useRef(keys);
  now.current = keys;
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      const act = now.current[event.key];
      const target = event.target as Element;
      if (!act || event.ctrlKey || event.metaKey || event.altKey || target.closest(TAKEN) || document.querySelector("dialog[open]")) return;
      if (event.key === " " && target.closest(PRESSED) && !target.closest(".log-row")) return; // rows open by Enter
      event.preventDefault();
      act();
    };
    document.addEventListener("keydown", pressed);
    return () => document.removeEventListener("keydown", pressed);
  }, []);
}

/** Moves to the row before or after the one that has the focus; into the list, if none has it. */
export function moveRow(by: 1 | -1): void {
  const rows = [...document.querySelectorAll<HTMLElement>(".log-row")];
  const here = rows.findIndex((row) => row === document.activeElement);
  const next = rows[here < 0 ? (by > 0 ? 0 : rows.length - 1) : here + by];
  next?.focus({ preventScroll: true });
  next?.scrollIntoView({ block: "nearest" });
}
