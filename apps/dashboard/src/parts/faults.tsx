/**
 * The fault panel: five ways to break it, what each really does, and a report of how it healed (healing.ts).
 */

import { useEffect, useRef, useState } from "react";
import { ask, type Refusal, useAsked } from "../api";
import { count, duration } from "../format";
import { isHealed } from "../healing";
import { events, faults } from "../live";
import { useNow } from "../now";
import { store, useStore } from "../store";
import type { Proof, Snapshot } from "../types";

interface Control {
  enabled: boolean;
}

interface Report {
  action: string;
  startedAt: number;
  before: Proof;
  after?: Proof;
  healedMs?: number;
  error?: string;
}

const CONTROLS: { action: string; name: string; seconds: number; what: string }[] = [
  { action: "crash_worker", name: "Crash a worker", seconds: 0, what: "One worker process ends at once, in the middle of its work, as kill -9 would. Its supervisor starts it again after 5 s; another takes its jobs." },
  { action: "drop_network", name: "Drop the network", seconds: 10, what: "Every /ingest is refused with 503. Producers keep what they have and send again." },
  { action: "delay_ack", name: "Delay acknowledgements", seconds: 30, what: "Every ACK is held back 3 s longer. Producers resend; the ledger turns duplicates away." },
  { action: "flush_queue", name: "Flush the queue", seconds: 0, what: "All waiting jobs, their bodies and marks go at once. Their senders are told; producers make it good." },
  { action: "reset", name: "Reset", seconds: 0, what: "All faults end; counters and finished replays are cleared. Logs and ledger stay." },
];
const LOOK_MS = 400;
const GIVE_UP_MS = 180_000;

// They outlive the panel: it may be closed while something heals.
const allReports = store<Record<string, Report>>({});

function tell(report: Report): void {
  allReports.update((all) => ((all[report.action]?.startedAt ?? 0) <= report.startedAt ? { ...all, [report.action]: report } : all));
}

export function useFaultsEnabled(): boolean {
  return useAsked<Control>("/metrics/control", 15_000).value?.enabled ?? false;
}

/** Whether the worker that crashed after this moment is back; one that nobody supervises will not be. */
function isRepaired(since: number): boolean {
  const news = events.get().filter((event) => event.at >= since);
  return news.some((event) => event.kind === "recovery" || (event.kind === "crash" && event.alone === true));
}

/** Follows the healing of one fault until everything that was produced before it ended is stored. */
async function watch(report: Report): Promise<void> {
  let current = report;
  const isNewest = () => allReports.get()[report.action]?.startedAt === report.startedAt;
  while (isNewest() && Date.now() - report.startedAt < GIVE_UP_MS) {
    await new Promise((done) => window.setTimeout(done, LOOK_MS));
    try {
      const [now, proof] = await Promise.all([ask<Snapshot>("/metrics/snapshot"), ask<Proof>("/proof")]);
      const on = now.faults.some((fault) => fault.action === report.action);
      const crashed = report.action === "crash_worker" && !isRepaired(report.startedAt);
      if (!on && !crashed && isHealed(report.before, proof, now.services)) {
        tell({ ...current, after: proof, healedMs: Date.now() - report.startedAt });
        return;
      }
      current = { ...current, after: proof };
      tell(current);
    } catch {
      // The server is away: that too heals.
    }
  }
  if (isNewest()) tell({ ...current, error: "Not healed within 3 minutes. The queue page says what waits." });
}

export function FaultsPanel({ close }: { close: () => void }) {
  const running = useStore(faults);
  const reports = useStore(allReports);
  const [error, setError] = useState("");
  const now = useNow(500);
  const first = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    first.current?.focus();
    const escape = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) close();
    };
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  }, [close]);

  const start = async (action: string) => {
    setError("");
    try {
      const before = await ask<Proof>("/proof");
      const report: Report = { action, startedAt: Date.now(), before };
      await ask("/metrics/control", { action });
      tell(report);
      if (action !== "reset") void watch(report);
    } catch (reason) {
      setError((reason as Refusal).message);
    }
  };

  return (
    <aside className="side" aria-label="Faults">
      <div className="head">
        <h1>Faults</h1>
        <div className="rest">
          <button type="button" ref={first} onClick={close}>
            Close
          </button>
        </div>
      </div>
      <p className="soft">Break it and watch it heal. What is acknowledged stays; what is lost is signed, here never.</p>
      {error && (
        <p className="signal bad" role="alert">
          {error}
        </p>
      )}
      {CONTROLS.map((control) => {
        const on = running.find((fault) => fault.action === control.action && fault.active);
        const left = on?.until ? Math.max(0, Date.parse(on.until) - now) : 0;
        const report = reports[control.action];
        return (
          <section className="fault" key={control.action} data-fault={control.action}>
            <div className="inline">
              <b>{control.name}</b>
              <button type="button" className={control.action === "reset" ? "" : "danger"} onClick={() => start(control.action)}>
                {control.seconds ? `For ${control.seconds} s` : "Now"}
              </button>
            </div>
            <p className="soft">{control.what}</p>
            {left > 0 && <span className="signal bad">on for another {Math.ceil(left / 1000)} s</span>}
            {report && report.action !== "reset" && <ReportView report={report} now={now} />}
          </section>
        );
      })}
    </aside>
  );
}

function ReportView({ report, now }: { report: Report; now: number }) {
  const { before, after } = report;
  const rows: [string, (proof: Proof) => number][] = [
    ["produced", (p) => p.totals.produced],
    ["stored", (p) => p.totals.stored],
    ["in buffers", (p) => p.totals.buffered],
    ["lost", (p) => p.totals.lost],
    ["duplicates turned away", (p) => p.totals.duplicates],
  ];
  // Per stream, for one stream's missing numbers must not hide another's surplus. Postgres refuses a second row of
  // a number, so this is a check of the ledger against itself.
  const twice = (after?.streams ?? []).reduce((sum, s) => sum + Math.max(0, s.stored + s.lost + s.expired + s.void - s.produced), 0);
  const began = new Map(before.streams.map((s) => [`${s.epoch} ${s.service}`, s.lost]));
  const lost = (after?.streams ?? []).reduce((sum, s) => sum + Math.max(0, s.lost - (began.get(`${s.epoch} ${s.service}`) ?? s.lost)), 0);
  return (
    <div className="report" role="status" data-healed={report.healedMs !== undefined}>
      {report.error ? (
        <span className="signal bad">{report.error}</span>
      ) : report.healedMs === undefined ? (
        <span className="signal busy">healing for {duration(Math.max(0, now - report.startedAt))}</span>
      ) : (
        <span className="signal good">
          Healed in {duration(report.healedMs)}: lost {count(lost)}, stored twice {count(twice)}.
        </span>
      )}
      <table>
        <thead>
          <tr>
            <th scope="col">Ledger</th>
            <th scope="col" className="n">
              before
            </th>
            <th scope="col" className="n">
              now
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map(([name, of]) => (
            <tr key={name}>
              <td>{name}</td>
              <td className="n">{count(of(before))}</td>
              <td className="n">{after ? count(of(after)) : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
