/** Dark or light: as the system says, until somebody chooses. */

import { store } from "./store";

export type Theme = "dark" | "light";
const KEY = "tracehub-theme";
const system = window.matchMedia("(prefers-color-scheme: light)");

function chosen(): Theme | null {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "dark" || kept === "light" ? kept : null;
  } catch {
    return null; // storage is forbidden: the system decides
  }
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
  try {
    localStorage.setItem(KEY, theme.get() === "dark" ? "light" : "dark");
  } catch {
    return;
  }
  apply();
}

system.addEventListener("change", apply);
apply();
