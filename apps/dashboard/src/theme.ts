/** Dark or light: as the system says, until somebody chooses. */

import { keep, kept } from "./kept";
import { store } from "./store";

export type Theme = "dark" | "light";
const KEY = "tracehub-theme";
const system = window.matchMedia("(prefers-color-scheme: light)");

function chosen(): Theme | null {
  const name = kept(KEY);
  return name === "dark" || name === "light" ? name : null;
}

function now(): Theme {
  return chosen() ?? (system.matches ? "light" : "dark");
}

export const theme = store<Theme>(now());
export const themeVersion = store(0);

function apply(): void {
  theme.set(now());
  document.documentElement.dataset.theme = theme.get();
  themeVersion.update((n) => n + 1);
}

export function toggleTheme(): void {
  if (keep(KEY, theme.get() === "dark" ? "light" : "dark")) apply();
}

system.addEventListener("change", apply);
apply();
