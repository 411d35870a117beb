/** The names of all services that have entries, by whatever door they came. */

import { useMemo } from "react";
import { useAsked } from "./api";
import { snapshot } from "./live";
import { useStore } from "./store";

const EVERY_MS = 10_000;

/** Sorted; undefined until they are known. */
export function useServices(): readonly string[] | undefined {
  const asked = useAsked<{ data: string[] }>("/api/v1/logs/services", EVERY_MS);
  const numbered = (useStore(snapshot)?.services ?? []).map((service) => service.service).join("\n");
  const stored = asked.value?.data;
  // What has only just begun is in the snapshot first.
  const names = useMemo(() => stored && [...new Set([...stored, ...numbered.split("\n").filter(Boolean)])].sort(), [stored, numbered]);
  // Where they cannot be read, a word is looked for as it stands.
  return names ?? (asked.error ? NONE : undefined);
}

const NONE: readonly string[] = [];
