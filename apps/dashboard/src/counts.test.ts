import { describe, expect, it } from "vitest";
import { type Bucket, barsOf, facetsOf, intervalFor } from "./counts";

const HOUR = 3_600_000;
const START = Date.parse("2024-01-15T00:00:00Z");
const bucket = (hour: number, count: number, levels: Record<string, number> = {}, group?: string): Bucket => ({
  bucket: new Date(START + hour * HOUR).toISOString(),
  count,
  level_counts: levels,
  ...(group === undefined ? {} : { group }),
});

describe("barsOf", () => {
  it("is nothing of nothing", () => expect(barsOf([], "hour", [START, START + HOUR])).toEqual([]));
  it("has a bar for hours in which nothing was, and tells calm from trouble", () => {
    const bars = barsOf([bucket(1, 9, { INFO: 4, WARN: 2, ERROR: 2, FATAL: 1 }), bucket(3, 1, { DEBUG: 1 })], "hour", [null, null]);
    expect(bars.map((bar) => [bar.calm, bar.warn, bar.error])).toEqual([[4, 2, 3], [0, 0, 0], [1, 0, 0]]);
    expect(bars[0]!.from).toBe(START + HOUR);
    expect(bars[2]!.to).toBe(START + 4 * HOUR);
  });
  it("covers the time that was asked for", () => {
    const bars = barsOf([bucket(5, 1)], "hour", [START + HOUR / 2, START + 9 * HOUR]);
    expect([bars.length, bars[0]!.from, bars.at(-1)!.to]).toEqual([10, START, START + 10 * HOUR]);
  });
  it("adds up what would be too many bars, and loses none", () => {
    const buckets = Array.from({ length: 1_000 }, (_, n) => bucket(n, 2));
    const bars = barsOf(buckets, "hour", [null, null]);
    expect(bars.length).toBeLessThanOrEqual(120);
    expect(bars.reduce((sum, bar) => sum + bar.calm, 0)).toBe(2_000);
    for (let n = 1; n < bars.length; n += 1) expect(bars[n]!.from).toBe(bars[n - 1]!.to);
  });
});

describe("facetsOf", () => {
  it("adds up over time, the largest first, without what has no value or was put together", () => {
    const buckets = [bucket(0, 1, {}, "b"), bucket(1, 4, {}, "a"), bucket(2, 5, {}, "b"), bucket(2, 9, {}, ""), bucket(2, 99, {}, "__other__"), bucket(3, 3)];
    expect(facetsOf(buckets)).toEqual([{ value: "b", count: 6 }, { value: "a", count: 4 }]);
  });
  it("has at most ten", () => {
    expect(facetsOf(Array.from({ length: 30 }, (_, n) => bucket(n, 1, {}, `v${n}`)))).toHaveLength(10);
  });
});

describe("intervalFor", () => {
  it.each([
    [HOUR, "minute"],
    [24 * HOUR, "hour"],
    [400 * 24 * HOUR, "day"],
  ])("%d ms", (span, interval) => expect(intervalFor(span)).toBe(interval));
});
