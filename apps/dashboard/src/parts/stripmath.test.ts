import { describe, expect, it } from "vitest";
import { clamp, NUMBERS_MIN, numberAt, pan, placed, zoom } from "./stripmath";

describe("the view of a number line", () => {
  it("never leaves the line, and is never too narrow to read", () => {
    for (const most of [1, 5, 100, 9_007_199_254_740_991]) {
      let view = { from: 1, to: most };
      for (const step of [0.5, 0.5, 2, 0.1, 0.01, 10, 0.5]) {
        view = pan(zoom(view, step, 0.3, most), step > 1 ? -3 : 0.4, most);
        expect(view.from).toBeGreaterThanOrEqual(1);
        expect(view.to).toBeLessThanOrEqual(Math.max(most, NUMBERS_MIN));
        expect(view.to - view.from + 1).toBeGreaterThanOrEqual(NUMBERS_MIN);
        expect(Number.isSafeInteger(view.from)).toBe(true);
      }
    }
  });
  it("keeps the number under the pointer in place", () => {
    const near = zoom({ from: 1, to: 1_000 }, 0.5, 0.25, 1_000);
    expect(near.from + (near.to - near.from) * 0.25).toBeCloseTo(250, -1);
  });
  it("comes back to the whole line", () => {
    expect(clamp({ from: -5, to: 9_999 }, 100)).toEqual({ from: 1, to: 100 });
  });
});

describe("ranges as pixels", () => {
  const view = { from: 1, to: 1_000_000 };
  it("shows a single number among a million", () => expect(placed([500_000, 500_000], view, 1_000)![1]).toBeGreaterThanOrEqual(1));
  it("fills the line", () => expect(placed([1, 1_000_000], view, 1_000)).toEqual([0, 1_000]));
  it("leaves out what is outside", () => {
    expect(placed([1, 9], { from: 10, to: 20 }, 100)).toBeUndefined();
    expect(placed([21, 30], { from: 10, to: 20 }, 100)).toBeUndefined();
  });
  it("cuts what reaches over the edges", () => expect(placed([5, 15], { from: 11, to: 20 }, 100)).toEqual([0, 50]));
  it("finds the number under a pixel", () => {
    expect(numberAt(0, { from: 11, to: 20 }, 100)).toBe(11);
    expect(numberAt(99, { from: 11, to: 20 }, 100)).toBe(20);
  });
});
