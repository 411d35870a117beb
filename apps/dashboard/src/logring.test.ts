import { describe, expect, it } from "vitest";
import { LogFilter, matches, type Wanted } from "./logfilter";
import { LogRing } from "./logring";
import type { LogEntry } from "./types";

const ALL: Wanted = { service: "", levels: [], text: "", exact: {} };

function entry(seq: number, more: Partial<LogEntry> = {}): LogEntry {
  return { id: String(seq), service_name: "shop", seq, level: "INFO", severity: 9, message: `message ${seq}`, timestamp: "", created_at: "", ...more };
}

function filled(max: number, count: number): LogRing {
  const ring = new LogRing(max);
  for (let n = 0; n < count; n += 1) ring.push(entry(n));
  return ring;
}

describe("LogRing", () => {
  it("keeps the newest, in order, and no more than it may", () => {
    const ring = filled(5, 12);
    expect(ring.length).toBe(5);
    expect([0, 1, 2, 3, 4].map((i) => ring.at(i)?.seq)).toEqual([7, 8, 9, 10, 11]);
    expect(ring.firstNumber).toBe(7);
    expect(ring.byNumber(6)).toBeUndefined();
    expect(ring.byNumber(11)?.seq).toBe(11);
    expect(ring.byNumber(12)).toBeUndefined();
  });
});

describe("a cleared LogRing", () => {
  it("is empty, and its numbers go on", () => {
    const ring = filled(5, 12);
    ring.clear();
    ring.push(entry(12));
    expect([ring.length, ring.firstNumber, ring.byNumber(12)?.seq]).toEqual([1, 12, 12]);
  });
});

describe("matches", () => {
  const one = entry(1, { service_name: "Checkout", severity: 17, message: "Card DECLINED", trace_id: "t1", request_id: "r1" });
  it.each<[Partial<Wanted>, boolean]>([
    [{}, true],
    [{ service: "check" }, true],
    [{ service: "shop" }, false],
    [{ service: "check", whole: true }, false],
    [{ levels: ["debug", "error"] }, true],
    [{ levels: ["warning", "critical"] }, false],
    [{ text: "declined" }, true],
    [{ text: "accepted" }, false],
    [{ exact: { trace_id: "t1" } }, true],
    [{ exact: { trace_id: "t" } }, false],
    [{ exact: { request_id: "r1", host: "web-1" }, text: "card" }, false],
    [{ exact: { request_id: "r1" }, text: "card" }, true],
  ])("%j", (wanted, expected) => expect(matches(one, { ...ALL, ...wanted })).toBe(expected));
});

describe("LogFilter", () => {
  it("says the same as looking at everything, whatever came and went", () => {
    const ring = new LogRing(50);
    const filter = new LogFilter(ring);
    const odd = { ...ALL, text: "odd" };
    for (let round = 0; round < 40; round += 1) {
      for (let n = 0; n < round; n += 1) ring.push(entry(ring.total, { message: ring.total % 3 ? "odd" : "even" }));
      const expected: number[] = [];
      for (let n = ring.firstNumber; n < ring.total; n += 1) if (ring.byNumber(n)!.message === "odd") expected.push(n);
      expect(filter.matching(odd, ring.total)).toEqual(expected);
    }
  });
  it("gives the same array while nothing has changed, so that nothing is drawn", () => {
    const ring = filled(10, 10);
    const filter = new LogFilter(ring);
    expect(filter.matching(ALL, 10)).toBe(filter.matching(ALL, 10));
  });
  it("starts anew for another filter and for an earlier end", () => {
    const ring = filled(10, 10);
    const filter = new LogFilter(ring);
    expect(filter.matching(ALL, 10)).toHaveLength(10);
    expect(filter.matching({ ...ALL, text: "message 3" }, 10)).toEqual([3]);
    expect(filter.matching(ALL, 4)).toEqual([0, 1, 2, 3]);
  });
});

describe("a ring of huge messages", () => {
  it("keeps as many as their characters allow, and at least the newest", () => {
    const ring = new LogRing(100, 10_000);
    for (let n = 1; n <= 20; n += 1) ring.push(entry(n, { message: "x".repeat(1_800) }));
    expect([ring.length, ring.firstNumber, ring.total]).toEqual([5, 15, 20]);
    ring.push(entry(21, { metadata: { deep: { text: "y".repeat(50_000) } } }));
    expect([ring.length, ring.at(0)?.id]).toEqual([1, "21"]);
    for (let n = 22; n <= 200; n += 1) ring.push(entry(n));
    expect(ring.byNumber(ring.total - 1)?.id).toBe("200");
    expect(ring.at(0)).toBeDefined();
    expect(ring.at(ring.length)).toBeUndefined();
  });
});
