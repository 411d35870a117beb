import { useTitle } from "../title";
import { useState } from "react";
import { ask, type Refusal, useAsked } from "../api";
import { clock, when, count, duration } from "../format";
import { events, series, snapshot } from "../live";
import { Chart } from "../parts/chart";
import { Figure } from "../parts/figure";
import { JsonTree } from "../parts/json";
import { Panel, Segmented } from "../parts/panel";
import { Empty, Loading, When } from "../parts/states";
import { WorkersTable } from "../parts/tables";
import { useStore } from "../store";

const WINDOWS = { "5m": 300, "1h": 3_600 } as const;
const PAGE = 50;

interface Letter {
  id: number;
  service: string;
  epoch: number;
  seq: number;
  batchId: string;
  reason: string;
  error: string;
  retries: number;
  createdAt: string;
  payload: Record<string, unknown> | null;
}

interface Letters {
  total: number;
  offset: number;
  deadLetters: Letter[];
}

export function QueuePage() {
  useTitle("Queue");
  const now = useStore(snapshot);
  return (
    <div className="page">
      <h1>Queue</h1>
      {now ? (
        <>
          <div className="panel">
            <dl className="figures">
              {(
                [
                  ["New batches", now.queue.logs, "queue:logs"],
                  ["Replays and batches again", now.queue.retry, "queue:retry"],
                ] as const
              ).map(([name, depth, more]) => (
                <Figure
                  key={name}
                  name={name}
                  value={count(depth.depth)}
                  more={`entries in ${more}${depth.oldestMs > 0 ? `, the oldest for ${duration(depth.oldestMs)}` : ""}`}
                />
              ))}
              <Figure name="In flight" value={count(now.totals.inFlight)} more="taken in, not yet committed" />
              <Figure name="Dead letters" value={count(now.queue.dead)} more="set aside, see below" />
            </dl>
          </div>
          <Depths />
          <div className="row">
            <Panel title="Workers">
              <WorkersTable workers={now.workers} />
            </Panel>
            <Happenings />
          </div>
        </>
      ) : (
        <Loading what="the queue" />
      )}
      <DeadLetters />
    </div>
  );
}

function Depths() {
  const [span, setSpan] = useState<keyof typeof WINDOWS>("5m");
  const { at, logs, retry, oldest } = useStore(series);
  const marks = useStore(events).filter((e) => e.kind === "fault" || e.kind === "crash");
  const last = at.at(-1) ?? Date.now() / 1000;
  return (
    <Panel
      title="Depth over time, with faults"
      rest={<Segmented label="Time span" value={span} options={[["5m", "5 min"], ["1h", "1 h"]] as const} onChange={setSpan} />}
    >
      <Chart
        label="Entries that wait in each queue, over time; dashed lines are faults and crashes"
        at={at}
        fromS={last - WINDOWS[span]}
        toS={last}
        format={count}
        markers={marks.map((e) => ({ at: e.at / 1000 }))}
        lines={[
          { label: "queue:logs", values: logs, color: "--series-1" },
          { label: "queue:retry", values: retry, color: "--series-2", dash: [6, 3] },
          { label: "oldest job, s", values: oldest, color: "--warn", dash: [2, 2] },
        ]}
      />
    </Panel>
  );
}

const KIND = { fault: "bad", "fault-over": "good", crash: "bad", recovery: "good" } as const;

function Happenings() {
  const all = useStore(events);
  const newest = all.slice(-12).reverse();
  return (
    <Panel title="What happened">
      {newest.length === 0 ? (
        <Empty>
          <p>Nothing since this page was opened. Faults and crashes appear here; gaps and how they heal are under Replay.</p>
        </Empty>
      ) : (
        <ul className="stack">
          {newest.map((e, i) => (
            <li key={`${e.at} ${i}`}>
              <span className="soft">{clock(new Date(e.at).toISOString())}</span> <span className={`signal ${KIND[e.kind]}`}>{e.text}</span>
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}

function DeadLetters() {
  const [offset, setOffset] = useState(0);
  const asked = useAsked<Letters>(`/dead-letters?limit=${PAGE}&offset=${offset}`, 3_000);
  return (
    <Panel title="Dead letters">
      <When asked={asked} what="the dead letters">
        {(letters) =>
          letters.deadLetters.length === 0 && offset > 0 ? (
            <Empty>
              <p>No more are here.</p>
              <button type="button" onClick={() => setOffset(Math.max(0, offset - PAGE))}>
                Newer
              </button>
            </Empty>
          ) : letters.total === 0 ? (
            <Empty>
              <p>None. What the store refuses, or what says something else under a number that is taken, is kept here.</p>
            </Empty>
          ) : (
            <>
              <ul className="stack">
                {letters.deadLetters.map((letter) => (
                  <LetterRow key={letter.id} letter={letter} changed={asked.again} />
                ))}
              </ul>
              {letters.total > PAGE && (
                <p className="inline">
                  <button type="button" disabled={offset === 0} onClick={() => setOffset(Math.max(0, offset - PAGE))}>
                    Newer
                  </button>
                  <button type="button" disabled={offset + PAGE >= letters.total} onClick={() => setOffset(offset + PAGE)}>
                    Older
                  </button>
                </p>
              )}
            </>
          )
        }
      </When>
    </Panel>
  );
}

function LetterRow({ letter, changed }: { letter: Letter; changed: () => void }) {
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const [sure, setSure] = useState(false); // the first press asks for a second one
  const act = async (path: string, method: "POST" | "DELETE") => {
    setBusy(true);
    try {
      await ask(path, {}, method);
      setError("");
      changed();
    } catch (reason) {
      setError((reason as Refusal).message);
    }
    setBusy(false);
  };
  return (
    <li className="fault">
      <div className="inline">
        <span>
          <b>
            {letter.service} #{count(letter.seq)}
          </b>{" "}
          <span className="signal warn">{letter.reason}</span> <span className="soft">{letter.error}</span>
        </span>
        <span className="inline">
          <span className="soft small">{when(letter.createdAt)}</span>
          {letter.reason !== "conflict" && (
            <button type="button" disabled={busy} onClick={() => act(`/dead-letters/${letter.id}/retry`, "POST")}>
              Retry
            </button>
          )}
          <button
            type="button"
            className="danger"
            disabled={busy}
            onBlur={() => setSure(false)}
            onClick={() => (sure ? act(`/dead-letters/${letter.id}`, "DELETE") : setSure(true))}
          >
            {sure ? "Discard for good" : "Discard"}
          </button>
        </span>
      </div>
      {error && (
        <span className="signal bad" role="alert">
          {error}
        </span>
      )}
      {letter.payload ? <JsonTree name="entry" value={letter.payload} /> : <span className="soft">Its payload was written by another version.</span>}
    </li>
  );
}
