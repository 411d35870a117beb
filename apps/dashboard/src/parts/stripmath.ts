/** The pure part of the sequence strip: numbers to pixels, zoom, pan. */

import type { Range } from "../types";

export const KINDS = ["stored", "expired", "inFlight", "missing", "replaying", "lost"] as const;
export type Kind = (typeof KINDS)[number];

export interface View {
  from: number;
  to: number; // inclusive
}

export const NUMBERS_MIN = 10;

/** Keeps a view within 1..most, as wide as it was where that is possible. */
export function clamp(view: View, most: number): View {
  const width = Math.min(Math.max(view.to - view.from, NUMBERS_MIN - 1), Math.max(most - 1, NUMBERS_MIN - 1));
  const from = Math.max(1, Math.min(view.from, Math.max(most, NUMBERS_MIN) - width));
  return { from: Math.round(from), to: Math.round(from + width) };
}

/** Zooms by a factor (below 1: closer) around the share 0..1 of the view that stays in place. */
export function zoom(view: View, factor: number, around: number, most: number): View {
  const width = view.to - view.from;
  const next = width * factor;
  const from = view.from + (width - next) * around;
  return clamp({ from, to: from + next }, most);
}

/** Moves by a share of the view. */
export function pan(view: View, share: number, most: number): View {
  const step = (view.to - view.from + 1) * share;
  return clamp({ from: view.from + step, to: view.to + step }, most);
}

/**
 * Where a range lies in `pixels` of a view, as [left, width]; at least one pixel wide, so that a single missing
 * number among a million is seen. Undefined when it lies outside.
 */
export function placed([first, last]: Range, view: View, pixels: number): [number, number] | undefined {
  if (last < view.from || first > view.to) return undefined;
  const perNumber = pixels / (view.to - view.from + 1);
  const left = Math.max(0, (first - view.from) * perNumber);
  const right = Math.min(pixels, (last + 1 - view.from) * perNumber);
  return [Math.min(left, pixels - 1), Math.max(1, right - left)];
}

/** The number under a pixel. */
export function numberAt(x: number, view: View, pixels: number): number {
  return Math.min(view.to, view.from + Math.floor((x / pixels) * (view.to - view.from + 1)));
}
