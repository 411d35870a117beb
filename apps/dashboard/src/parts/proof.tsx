/** The proof in one line (GET /proof): produced = stored + buffered + in flight + lost. */

import { Link } from "wouter";
import { useAsked } from "../api";
import { count } from "../format";
import type { Proof, StreamProof } from "../types";
import { When } from "./states";

export function ProofLine({ service }: { service?: string }) {
  const asked = useAsked<Proof>(service ? `/proof?service=${encodeURIComponent(service)}` : "/proof", 2_000);
  return (
    <When asked={asked} what="the proof">
      {(proof) => <ProofSum proof={proof} />}
    </When>
  );
}

function Term({ n, word, op }: { n: number; word: string; op?: string }) {
  return (
    <span>
      {op && <span className="op">{op} </span>}
      <b>{count(n)}</b> {word}
    </span>
  );
}

export function ProofSum({ proof: { totals, balanced, streams } }: { proof: Proof }) {
  return (
    <div className={`panel proof ${balanced ? "balanced" : "broken"}`} data-balanced={balanced}>
      <div className="sum">
        <Term n={totals.produced} word="produced" />
        <Term n={totals.stored} word="stored" op="=" />
        <Term n={totals.buffered} word="in producers' buffers" op="+" />
        <Term n={totals.lost} word="lost, signed off" op="+" />
        {totals.unaccounted !== 0 && <Term n={totals.unaccounted} word="unaccounted for" op="+" />}
      </div>
      <p className="soft small">
        <span className={`signal ${balanced ? "good" : "bad"}`}>{balanced ? "It balances." : "It does not balance."}</span>{" "}
        {count(totals.duplicates)} duplicates turned away, {count(totals.conflicts)} conflicts set aside
        {totals.expired > 0 && <>, {count(totals.expired)} expired by retention</>}.
      </p>
      <Unbalanced streams={streams.filter((stream) => !stream.balanced)} />
    </div>
  );
}

const NAMED_MAX = 3;

/** What does not add up, and what to do about it. */
function Unbalanced({ streams }: { streams: StreamProof[] }) {
  if (streams.length === 0) return null;
  return (
    <p className="small">
      {streams.slice(0, NAMED_MAX).map((stream) => (
        <span key={`${stream.service} ${stream.epoch}`}>
          <b>{count(stream.unaccounted)}</b> of <Link href={`/services/${encodeURIComponent(stream.service)}`}>{stream.service}</Link>,{" "}
        </span>
      ))}
      {streams.length > NAMED_MAX && <>and {count(streams.length - NAMED_MAX)} more streams, </>}
      neither stored nor in a buffer: send them again, or sign them off under <Link href="/replay?status=pending">Replay</Link>.
    </p>
  );
}
