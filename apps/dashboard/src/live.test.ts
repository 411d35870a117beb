import { describe, expect, it } from "vitest";
import { joined, SERIES_MAX, wordsFor } from "./live";

const NONE = { at: [], received: [], stored: [], logs: [], retry: [], oldest: [] };
const remembered = { at: [1_000, 3_000, 5_000], received: [1, 2, 3], stored: [4, 5, 6], logs: [0, null, 2], retry: [0, null, 0], oldestMs: [0, null, 1_500], events: [] };

describe("joined", () => {
  it("is all there is for a page that has seen nothing", () => {
    expect(joined(remembered, NONE)).toEqual({ at: [1, 3, 5], received: [1, 2, 3], stored: [4, 5, 6], logs: [0, null, 2], retry: [0, null, 0], oldest: [0, null, 1.5] });
  });
  it("fills what the page has not seen, before it and in between, and tells nothing twice", () => {
    const own = { at: [3.4, 9.4], received: [9, 9], stored: [9, 9], logs: [9, 9], retry: [9, 9], oldest: [9, 9] };
    expect(joined(remembered, own).at).toEqual([1, 3.4, 5, 9.4]);
    expect(joined(remembered, own).oldest).toEqual([0, 9, 1.5, 9]);
  });
  it("is bounded", () => {
    const at = Array.from({ length: SERIES_MAX }, (_, n) => 10 + n);
    expect(joined(remembered, { at, received: at, stored: at, logs: at, retry: at, oldest: at }).at).toHaveLength(SERIES_MAX);
  });
});

describe("wordsFor", () => {
  it.each([
    ["worker:crashed", { worker: "w1", recoversInMs: 5000 }, "crash", "w1 crashed; back in 5 s"],
    ["worker:crashed", { worker: "w1", recoversInMs: null }, "crash", "w1 crashed"],
    ["worker:recovered", { worker: "w1", downMs: 6_412 }, "recovery", "w1 is back after 6.4 s"],
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
