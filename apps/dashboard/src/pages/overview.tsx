import { useTitle } from "../title";
import { useState } from "react";
import { count, millis, percent, rate } from "../format";
import { faults, series, snapshot } from "../live";
import { Chart } from "../parts/chart";
import { useFaultsEnabled } from "../parts/faults";
import { Figure } from "../parts/figure";
import { Panel, Segmented } from "../parts/panel";
import { ProofLine } from "../parts/proof";
import { Empty, Loading } from "../parts/states";
import { ServicesTable, WorkersTable } from "../parts/tables";
import { useStore } from "../store";
import type { Snapshot } from "../types";

const WINDOWS = { "5m": 300, "1h": 3_600 } as const;
type Window = keyof typeof WINDOWS;

export function Overview() {
  useTitle("Overview");
  const now = useStore(snapshot);
  return (
    <div className="page">
      <h1>Overview</h1>
      <ProofLine />
      {now ? <Present now={now} /> : <Loading what="the present" />}
    </div>
  );
}

function Present({ now }: { now: Snapshot }) {
  const running = useStore(faults);
  const enabled = useFaultsEnabled();
  const { logs, retry, dead } = now.queue;
  return (
    <>
      <div className="panel">
        <dl className="figures">
          <Figure name="Received" value={rate(now.eps)} more="entries/s, mean of 10 s" />
          <Figure name="Stored" value={rate(now.epsStored)} more="entries/s, mean of 10 s" />
          <Figure name="Errors" value={percent(now.errorRate)} more="of what was stored" />
          <Figure name="Queue" value={count(logs.depth + retry.depth)} more={`${count(logs.depth)} new, ${count(retry.depth)} again`} />
          <Figure name="ACK p50" value={millis(now.ack.p50Ms)} more="from request to answer" />
          <Figure name="ACK p99" value={millis(now.ack.p99Ms)} more="from request to answer" />
          <Figure name="Dead letters" value={count(dead)} more={dead ? "see Queue" : "none set aside"} />
        </dl>
      </div>
      <Rates />
      <div className="row">
        <Panel title="Workers">
          <WorkersTable workers={now.workers} />
        </Panel>
        <Panel title="Running faults">
          {running.length === 0 ? (
            <Empty>
              <p>None.{enabled && " Open “Faults” above to break something and watch it heal."}</p>
            </Empty>
          ) : (
            <ul className="stack">
              {running.map((fault) => (
                <li key={fault.action}>
                  <span className="signal bad">{fault.action.replace("_", " ")}</span> <span className="soft">{fault.parameters.what}</span>
                </li>
              ))}
            </ul>
          )}
        </Panel>
      </div>
      <Panel title="Services">
        <ServicesTable services={now.services} />
      </Panel>
    </>
  );
}

function Rates() {
  const [span, setSpan] = useState<Window>("5m");
  const { at, received, stored } = useStore(series);
  const last = at.at(-1) ?? Date.now() / 1000;
  return (
    <Panel
      title="Entries per second"
      rest={<Segmented label="Time span" value={span} options={[["5m", "5 min"], ["1h", "1 h"]] as const} onChange={setSpan} />}
    >
      <Chart
        label="Entries per second, received and stored, over time"
        at={at}
        fromS={last - WINDOWS[span]}
        toS={last}
        format={rate}
        lines={[
          { label: "received", values: received, color: "--series-1" },
          { label: "stored", values: stored, color: "--series-2", dash: [6, 3] },
        ]}
      />
    </Panel>
  );
}
