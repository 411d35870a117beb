/** What somebody wants to see of the logs: the same words in the address, for live rows and for the server. Pure. */

export const SERVICES_MAX = 50; // the server takes so many values of one field

/** The six levels that people choose among: name, lowest and highest severity, the server's word. */
export const LEVELS = [
  ["debug", 1, 8, "debug"],
  ["info", 9, 9, "informational"],
  ["notice", 10, 12, "notice"],
  ["warning", 13, 16, "warn"],
  ["error", 17, 20, "error"],
  ["critical", 21, 24, "fatal"],
] as const;

/** The log service's own words for levels, and which of LEVELS each is. */
export const OF_WORD: Record<string, string> = { DEBUG: "debug", INFO: "info,notice", WARN: "warning", ERROR: "error", FATAL: "critical" };

/** Of this field any part is enough, in any case. */
export const PARTLY = "user_agent";

/** Fields that match whole, but for PARTLY: name in the address and of the server, and what it is called. */
export const EXACT = [
  ["app_id", "App ID"],
  ["category", "Category"],
  ["environment", "Environment"],
  ["host", "Host"],
  ["door", "Door"],
  ["trace_id", "Trace ID"],
  ["request_id", "Request ID"],
  ["batch_id", "Batch ID"],
  ["user_id", "User ID"],
  [PARTLY, "User agent"],
] as const;
export type ExactField = (typeof EXACT)[number][0];

export const BETWEEN = "between";
export const LAST = [
  ["", "Any time", 0],
  ["15m", "Last 15 min", 15 * 60_000],
  ["1h", "Last hour", 3_600_000],
  ["24h", "Last 24 h", 86_400_000],
  ["7d", "Last 7 days", 7 * 86_400_000],
  ["30d", "Last 30 days", 30 * 86_400_000],
  [BETWEEN, "Between …", 0],
] as const;

export interface Question {
  service: string; // part of a name, any case
  levels: readonly string[]; // names of LEVELS; none: all
  text: string;
  exact: Readonly<Partial<Record<ExactField, string>>>;
  last: string; // of LAST; a time of it goes before from and to
  from: string; // RFC 3339 in UTC, so that an address means the same everywhere; or empty
  to: string;
}

export function readQuestion(params: URLSearchParams): Question {
  const exact: Partial<Record<ExactField, string>> = {};
  for (const [name] of EXACT) {
    const value = params.get(name);
    if (value) exact[name] = value;
  }
  const last = params.get("last") ?? "";
  return {
    service: params.get("service") ?? "",
    levels: levelsOf(params.get("level"), params.get("severity")),
    text: params.get("text") ?? "",
    exact,
    last: LAST.some(([name]) => name === last) ? last : "",
    from: params.get("from") ?? "",
    to: params.get("to") ?? "",
  };
}

/** `level` names levels; `severity` is a least number, as links from alerts have it. */
export function levelsOf(level: string | null, severity: string | null): string[] {
  const named = (level ?? "").split(",");
  const least = Number(severity) || 0;
  return LEVELS.filter(([name, , highest]) => named.includes(name) || (!level && least > 1 && Math.min(least, 24) <= highest)).map(([name]) => name);
}

export type Filter = Record<string, string | string[]>;

/**
 * The filter that the server is asked with; null when more services are meant than one question may name. A name
 * that is known means itself; anything else stands for all known names that it is part of.
 */
export function filterOf(question: Question, services: readonly string[], now: number): Filter | null {
  const filter: Filter = { ...question.exact };
  const meant = servicesMeant(question.service, services);
  if (meant.length > SERVICES_MAX) return null;
  if (meant.length > 0) filter.service = meant;
  const words = LEVELS.filter(([name]) => question.levels.includes(name)).map(([, , , word]) => word);
  if (words.length > 0) filter.level = words;
  if (question.text) filter.search = question.text;
  const [start, end] = windowOf(question, now);
  if (start !== null) filter.start = new Date(start).toISOString();
  if (end !== null) filter.end = new Date(end).toISOString();
  return filter;
}

/** First and last millisecond that are asked for, null where there is no bound. */
export function windowOf(question: Question, now: number): [number | null, number | null] {
  const last = LAST.find(([name]) => name === question.last)?.[2] ?? 0;
  if (last > 0) return [now - last, null];
  const [start, end] = [Date.parse(question.from), Date.parse(question.to)];
  return [Number.isNaN(start) ? null : start, Number.isNaN(end) ? null : end];
}

export function queryOf(filter: Filter): URLSearchParams {
  return new URLSearchParams(Object.entries(filter).flatMap(([name, value]) => [value].flat().map((one) => [name, one])));
}

/** The names that a word in the service field means; the word itself when no known name has it. */
export function servicesMeant(word: string, services: readonly string[]): string[] {
  if (!word || services.includes(word)) return word ? [word] : [];
  const meant = services.filter((name) => name.toLowerCase().includes(word.toLowerCase())).sort();
  return meant.length > 0 ? meant : [word];
}

/** A moment of an address as an input for local times has it, in whole seconds; empty where it is none. */
export function localTime(moment: string): string {
  const at = new Date(moment);
  return Number.isNaN(at.getTime()) ? "" : new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** The moment that a local time means; the end of its second, where the second belongs to what is asked for. */
export function momentOf(local: string, whole = false): string {
  const at = new Date(local);
  const year = at.getFullYear();
  // While a year is being typed it is one of long ago.
  return year >= 2000 && year < 2100 ? new Date(at.getTime() + (whole ? 999 : 0)).toISOString() : "";
}
