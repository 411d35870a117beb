import { describe, expect, it } from "vitest";
import { isHealed } from "./healing";
import type { Proof, StreamProof } from "./types";

const NONE = { stored: 0, buffered: 0, inFlight: 0, lost: 0, unaccounted: 0, duplicates: 0, conflicts: 0, expired: 0, void: 0 };

function stream(service: string, produced: number, ackTill: number, balanced = true): StreamProof {
  return { ...NONE, service, epoch: 1, produced, ackTill, balanced, buffer: "read" };
}

function proof(...streams: StreamProof[]): Proof {
  return { balanced: streams.every((s) => s.balanced), totals: { ...NONE, produced: 0 }, streams };
}

const whole = { service: "a", epoch: 1, missingCount: 0 };

describe("isHealed", () => {
  it("waits until what was produced before is acknowledged", () => {
    const before = proof(stream("a", 10, 4));
    expect(isHealed(before, proof(stream("a", 20, 9)), [whole])).toBe(false);
    expect(isHealed(before, proof(stream("a", 20, 10)), [whole])).toBe(true);
    expect(isHealed(before, proof(), [])).toBe(false);
  });
  it("waits for gaps and for the balance", () => {
    const before = proof(stream("a", 10, 10));
    expect(isHealed(before, proof(stream("a", 20, 20)), [{ ...whole, missingCount: 1 }])).toBe(false);
    expect(isHealed(before, proof(stream("a", 20, 20, false)), [whole])).toBe(false);
  });
  it("leaves out what was broken before the fault, and what began after it", () => {
    const before = proof(stream("a", 10, 10), stream("gappy", 5, 1, false));
    const now = proof(stream("a", 12, 12), stream("gappy", 5, 1, false), stream("new", 5, 1, false));
    expect(isHealed(before, now, [whole, { service: "gappy", epoch: 1, missingCount: 3 }])).toBe(true);
  });
});
