/** Alerts as a form has them: an alert's filter in fields, and back; what it counts, as words and as an address. Pure. */

import { Refusal } from "./api";
import { EXACT, OF_WORD } from "./question";
import type { Channel, ChannelType, Filter } from "./types";

export const LEVELS = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL"] as const;
export const FIELDS = ["service", "level", "min_level", "search", "environment", "metadata"] as const;
export type FilterFields = Record<(typeof FIELDS)[number], string>;

/** The lowest number of each word that a filter may name; the logs page knows 9, 13, 17 and 21. */
const SEVERITY: Record<string, number> = {
  info: 9, information: 9, informational: 9, notice: 10, warn: 13, warning: 13, error: 17, err: 17,
  critical: 21, crit: 21, fatal: 21, panic: 21, alert: 22, emergency: 23, emerg: 23,
};

/** What a line's right side means: JSON where it reads the same again, else text. */
function meant(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "number" && String(value) !== text ? text : value;
  } catch {
    return text;
  }
}

/** `key=value`, a line each. Throws a Refusal for a line that is none. */
export function metadataOf(text: string): Record<string, unknown> {
  const lines = text.split("\n").filter((line) => line.trim());
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf("=");
      if (at < 1) throw new Refusal("must be lines of key=value", "invalid_request", 0, "filter.metadata");
      return [line.slice(0, at).trim(), meant(line.slice(at + 1).trim())];
    }),
  );
}

/** The lines of an object; null when they would not mean it again. */
export function linesOf(metadata: unknown): string | null {
  if (metadata === undefined) return "";
  if (metadata === null || typeof metadata !== "object" || Array.isArray(metadata)) return null;
  const line = ([key, value]: [string, unknown]) => `${key}=${typeof value === "string" && meant(value.trim()) === value && !value.includes("\n") ? value : JSON.stringify(value)}`;
  const text = Object.entries(metadata).map(line).join("\n");
  try {
    return JSON.stringify(metadataOf(text)) === JSON.stringify(metadata) ? text : null;
  } catch {
    return null;
  }
}

/** A filter in fields, and `rest`: what fields cannot say, which is kept as it is. */
export function split(filter: Filter): { fields: FilterFields; rest: Filter } {
  const fields: FilterFields = { service: "", level: "", min_level: "", search: "", environment: "", metadata: "" };
  const rest: Filter = {};
  for (const [name, value] of Object.entries(filter)) {
    const field = name === "service_name" && !("service" in filter) ? "service" : (FIELDS.find((one) => one === name) ?? "");
    const text = field === "metadata" ? linesOf(value) : typeof value === "string" ? value : null;
    const isLevel = field === "level" || field === "min_level";
    const known = isLevel ? LEVELS.find((word) => word === text?.toUpperCase()) : text;
    if (field && typeof known === "string") fields[field] = known;
    else rest[name] = value;
  }
  return { fields, rest };
}

/** The filter that fields and rest say together; an empty field says nothing. */
export function joined(fields: FilterFields, rest: Filter): Filter {
  const filter: Filter = { ...rest };
  const { metadata, ...texts } = fields;
  for (const [name, text] of Object.entries(texts)) if (text) filter[name] = text;
  const pairs = metadataOf(metadata);
  if (Object.keys(pairs).length > 0) filter.metadata = pairs;
  return filter;
}

const NAMED: Record<string, string> = { min_level: "level at least", search: "text", service_name: "service" };

/** A filter in words, one per condition. */
export function wordsOf(filter: Filter): string[] {
  const shown = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  return Object.entries(filter).flatMap(([name, value]) =>
    name === "metadata" && value !== null && typeof value === "object"
      ? Object.entries(value).map(([key, wanted]) => `metadata ${key} = ${shown(wanted)}`)
      : [`${NAMED[name] ?? name} ${Array.isArray(value) ? value.map(shown).join(" or ") : shown(value)}`],
  );
}

/** The history of the logs that a filter counts, as far as that page can be asked; `wider` when it shows more than these. */
export function logsOf(filter: Filter): { href: string; wider: boolean } {
  const { service, service_name, min_level, level, search, ...others } = filter;
  const query = new URLSearchParams({ view: "history" });
  const name = service ?? service_name;
  if (typeof name === "string" && name) query.set("service", name);
  const least = typeof min_level === "string" ? SEVERITY[min_level.trim().toLowerCase()] : undefined;
  const shown = [21, 17, 13, 9].find((number) => least !== undefined && number <= least);
  if (shown !== undefined) query.set("severity", String(shown));
  if (typeof search === "string" && search) query.set("text", search);
  const words = (level === undefined || level === "" ? [] : [level].flat()).map((word) => OF_WORD[String(word).toUpperCase()]);
  if (words.length > 0 && least === undefined && words.every(Boolean)) query.set("level", words.join(","));
  else if (words.length > 0) others.level = level;
  for (const [field] of EXACT) {
    const value = others[field];
    if (typeof value !== "string") continue;
    if (value) query.set(field, value);
    delete others[field];
  }
  const wider = Object.keys(others).length > 0 || (name !== undefined && typeof name !== "string") || least !== shown;
  return { href: `/live-logs?${query}`, wider };
}

/** Where a channel leads, in words. */
export function channelWords(channel: Channel): string {
  if (typeof channel === "string") return `the server's own ${channel}`;
  const where = channel.url ?? channel.webhook ?? channel.recipients?.join(", ") ?? "";
  const own = where || channel.integration_key || channel.routing_key;
  return `${own ? "" : "the server's own "}${channel.type}${where && ` ${where}`}${channel.disabled ? ", switched off" : ""}`;
}

/** The choice of a form: a type, or with `*` before it the server's own of this type. */
export function choiceOf(channel: Channel): string {
  if (typeof channel === "string") return `*${channel}`;
  const { type, disabled: _, ...own } = channel;
  return Object.keys(own).length > 0 ? type : `*${type}`;
}

export function typeOf(choice: string): ChannelType {
  return choice.replace("*", "") as ChannelType;
}

/** What was changed in a form that was opened with an alert: the rest may have been changed by somebody else meanwhile. */
export function changesOf(opened: object, body: object): object {
  const before = opened as Record<string, unknown>;
  return Object.fromEntries(Object.entries(body).filter(([name, value]) => canonical(value) !== canonical(before[name] ?? "")));
}

/** The same text for values that are the same, in whatever order their keys are. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner !== null && typeof inner === "object" && !Array.isArray(inner) ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1))) : inner,
  );
}
