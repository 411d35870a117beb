/** When a fault has healed, by the proof before it and the proof now. Pure. */

import type { Proof, Service, StreamProof } from "./types";

type Named = Pick<StreamProof, "service" | "epoch">;

const name = (stream: Named) => `${stream.epoch} ${stream.service}`;

/**
 * Everything that had been produced when the fault began is settled, nothing of it is missing, and it balances.
 * Streams that did not balance before the fault, and those that began after it, are none of its doing.
 */
export function isHealed(before: Proof, now: Proof, services: readonly Pick<Service, "service" | "epoch" | "missingCount">[]): boolean {
  const whole = new Set(before.streams.filter((stream) => stream.balanced).map(name));
  const counts = (stream: Named) => whole.has(name(stream));
  const reached = new Map(now.streams.map((stream) => [name(stream), stream.ackTill]));
  return (
    before.streams.filter(counts).every((stream) => (reached.get(name(stream)) ?? 0) >= stream.produced) &&
    now.streams.filter(counts).every((stream) => stream.balanced) &&
    services.filter(counts).every((service) => service.missingCount === 0)
  );
}
