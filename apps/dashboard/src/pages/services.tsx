import { useMemo, useState } from "react";
import { Link } from "wouter";
import { useAsked } from "../api";
import { count, duration, percent, rate, when } from "../format";
import { Figure } from "../parts/figure";
import { useTitle } from "../title";
import { Panel } from "../parts/panel";
import { ProofLine } from "../parts/proof";
import { Empty, When } from "../parts/states";
import { SequenceStrip } from "../parts/strip";
import { ServicesTable, StateSignal } from "../parts/tables";
import type { Service } from "../types";

export function Services() {
  useTitle("Services");
  const asked = useAsked<Service[]>("/services", 2_000);
  const [text, setText] = useState("");
  return (
    <div className="page">
      <div className="head">
        <h1>Services</h1>
        <div className="rest">
          <input type="search" placeholder="Filter by name" aria-label="Filter by name" value={text} onChange={(e) => setText(e.target.value)} />
        </div>
      </div>
      <div className="panel">
        <When asked={asked} what="the services">
          {(all) => <Filtered all={all} text={text} />}
        </When>
      </div>
    </div>
  );
}

function Filtered({ all, text }: { all: Service[]; text: string }) {
  const shown = useMemo(() => all.filter((s) => s.service.toLowerCase().includes(text.toLowerCase())), [all, text]);
  if (all.length > 0 && shown.length === 0)
    return (
      <Empty>
        <p>None of {count(all.length)} services has this in its name.</p>
      </Empty>
    );
  return <ServicesTable services={shown} />;
}

/** A part of an address as text; what is no part of a good address stands for itself. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function ServicePage({ params }: { params: { name: string } }) {
  const name = decoded(params.name);
  useTitle(name);
  const asked = useAsked<Service[]>("/services", 2_000);
  return (
    <div className="page">
      <div className="head">
        <h1>{name}</h1>
        <Link href="/services">All services</Link>
        <div className="rest">
          <Link href={`/live-logs?service=${encodeURIComponent(name)}`}>Its logs</Link>
          <Link href={`/replay?service=${encodeURIComponent(name)}`}>Its replays</Link>
        </div>
      </div>
      <When asked={asked} what="the service">
        {(all) => {
          const found = all.find((s) => s.service === name);
          if (!found)
            return (
              <Empty>
                <p>No log of a service of this name was ever received.</p>
                <Link href="/services">All services</Link>
              </Empty>
            );
          return <Present service={found} />;
        }}
      </When>
    </div>
  );
}

function Present({ service: s }: { service: Service }) {
  const facts: [string, string, string?][] = [
    ["Stored", rate(s.eps), "entries/s"],
    ["Errors", percent(s.errorRate)],
    ["Acknowledged till", count(s.ackTill), "everything up to here is committed"],
    ["Highest seen", count(s.highestSeen)],
    ["Missing", count(s.missingCount), s.oldestGapMs ? `the oldest gap for ${duration(s.oldestGapMs)}` : "no gap"],
    ["Lost", count(s.lostCount), "signed off in the ledger"],
    ["Lag", s.lagMs ? duration(s.lagMs) : "–", "age of what waits"],
    ["Last seen", when(s.lastSeen), `epoch ${s.epoch}`],
  ];
  return (
    <>
      <ProofLine service={s.service} />
      <div className="panel">
        <p>
          <StateSignal state={s.state} />
        </p>
        <dl className="figures">
          {facts.map(([name, value, more]) => (
            <Figure key={name} name={name} value={value} more={more} />
          ))}
        </dl>
      </div>
      <Panel title="Sequence">
        <SequenceStrip service={s.service} newest={s.epoch} key={`${s.service} ${s.epoch}`} />
      </Panel>
    </>
  );
}
