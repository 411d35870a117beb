import { describe, expect, it } from "vitest";
import { ago, clock, count, duration, millis, percent, plural, range, rate, ulid } from "./format";

describe("numbers as people read them", () => {
  it.each([
    [count(1234567), "1,234,567"],
    [rate(0), "0.0"],
    [rate(99.96), "100.0"],
    [rate(1234.5), "1,235"],
    [percent(0), "0 %"],
    [percent(0.0004), "< 0.1 %"],
    [percent(0.0135), "1.4 %"],
    [millis(null), "–"],
    [millis(7.94), "7.9 ms"],
    [millis(152.2), "152 ms"],
    [millis(1500), "1.5 s"],
    [duration(950), "950 ms"],
    [duration(4_200), "4.2 s"],
    [duration(59_400), "59 s"],
    [duration(180_000), "3 min"],
    [duration(7_800_000), "2 h 10 min"],
    [duration(7_200_000), "2 h"],
    [duration(5 * 86_400_000), "5 d"],
    [plural(1, "row"), "1 row"],
    [plural(2_000, "row"), "2,000 rows"],
    [range([7, 7]), "7"],
    [ulid("01932c07-2a1b-7c3d-8e4f-0123456789ab"), "01JCP0EAGVFGYRWKR14D2PF2DB"],
    [ulid("no-uuid"), "–"],
    [range([1, 2_000]), "1 – 2,000"],
    [clock("nonsense"), "–"],
    [ago("2026-01-01T00:00:00.000Z", Date.UTC(2026, 0, 1, 0, 0, 4, 400)), "4 s ago"],
    [ago("2026-01-01T00:00:00.000Z", Date.UTC(2026, 0, 1, 0, 0, 0, 400)), "now"],
    [ago("2026-01-01T00:00:00.000Z", Date.UTC(2026, 0, 1, 2, 10)), "2 h 10 min ago"],
    [ago("2026-01-01T00:02:00.000Z", Date.UTC(2026, 0, 1)), "in 2 min"],
    [ago("nonsense", 0), "–"],
  ])("%s", (shown, wanted) => expect(shown).toBe(wanted));

  it("shows milliseconds when asked", () => expect(clock("2026-11-21T10:20:30.045", true)).toBe("10:20:30.045"));
});
