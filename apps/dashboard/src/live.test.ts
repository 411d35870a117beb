import { describe, expect, it } from "vitest";
import { before, SERIES_MAX, wordsFor } from "./live";

const NONE = { at: [], received: [], stored: [], logs: [], retry: [], oldest: [] };
const remembered = { at: [1_000, 3_000, 5_000], received: [1, 2, 3], stored: [4, 5, 6], logs: [0, null, 2], retry: [0, null, 0], oldestMs: [0, null, 1_500], events: [] };

describe("before", () => {
  it("is all there is for a page that has seen nothing", () => {
    expect(before(remembered, NONE)).toEqual({ at: [1, 3, 5], received: [1, 2, 3], stored: [4, 5, 6], logs: [0, null, 2], retry: [0, null, 0], oldest: [0, null, 1.5] });
  });
  it("goes before what the page has seen, and never twice", () => {
    const own = { at: [3.5, 5.5], received: [9, 9], stored: [9, 9], logs: [9, 9], retry: [9, 9], oldest: [9, 9] };
    expect(before(remembered, own).at).toEqual([1, 3, 3.5, 5.5]);
    expect(before(remembered, own).oldest).toEqual([0, null, 9, 9]);
  });
  it("is bounded", () => {
    const at = Array.from({ length: SERIES_MAX }, (_, n) => 10 + n);
    expect(before(remembered, { at, received: at, stored: at, logs: at, retry: at, oldest: at }).at).toHaveLength(SERIES_MAX);
  });
});

describe("wordsFor", () => {
  it.each([
    ["worker:crashed", { worker: "w1", recoversInMs: 5000 }, "crash", "w1 crashed; back in 5 s"],
    ["worker:crashed", { worker: "w1", recoversInMs: null }, "crash", "w1 crashed"],
    ["worker:recovered", { worker: "w1", downMs: 6_412 }, "recovery", "w1 is back after 6.4 s"],
    ["replay:completed", { service: "a", from: 1, to: 3, count: 2 }, "replay", "a: 1 – 3 replayed (2)"],
    ["sim:control", { action: "delay_ack", active: true }, "fault", "delay_ack started"],
    ["sim:control", { action: "delay_ack", active: false }, "fault-over", "delay_ack is over"],
    ["sim:control", { action: "reset", active: false }, "fault", "reset done"],
  ])("says what %s means", (event, data, kind, text) => {
    expect(wordsFor(event, data, 7)).toMatchObject({ at: 7, kind, text });
  });
  it("is silent about what it does not know", () => {
    expect(wordsFor("else", {}, 7)).toBeUndefined();
  });
});
