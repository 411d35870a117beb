import { expect, it } from "vitest";
import { Session } from "./session";
import type { LogEntry } from "./types";

const entry = (service_name: string, severity: number) => ({ service_name, severity }) as LogEntry;

it("counts by level and service since it was cleared", () => {
  const session = new Session();
  session.push(entry("gone", 9));
  session.clear();
  for (const [service, severity] of [["b", 9], ["a", 17], ["b", 24], ["c", 12]] as const) session.push(entry(service, severity));
  expect(session.total).toBe(4);
  expect(["info", "notice", "error", "critical", "debug"].map((name) => session.ofLevel(name))).toEqual([1, 1, 1, 1, 0]);
  expect(session.top(2)).toEqual([["b", 2], ["a", 1]]);
});
