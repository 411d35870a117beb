/** Services and workers, as tables. */

import { Link } from "wouter";
import { when, count, duration, percent, rate } from "../format";
import type { Service, ServiceState, Worker } from "../types";
import { Empty } from "./states";
import { Table } from "./table";

const STATE: Record<ServiceState, [string, string]> = {
  ok: ["good", "whole"],
  gapping: ["warn", "has gaps"],
  replaying: ["busy", "replaying"],
  silent: ["idle", "silent"],
};

export function StateSignal({ state }: { state: ServiceState }) {
  const [kind, word] = STATE[state];
  return <span className={`signal ${kind}`}>{word}</span>;
}

export function ServicesTable({ services }: { services: Service[] }) {
  if (services.length === 0)
    return (
      <Empty>
        <p>No service that numbers its logs has sent anything yet; what comes without numbers is under Live logs. This one sends a line:</p>
        <code>
          curl -H 'content-type: application/json' -d '{`{"service":"shop","batch":[{"seq":1,"message":"hello"}]}`}' {window.location.origin}/ingest
        </code>
      </Empty>
    );
  return (
    <Table columns={["Service", "State", ["Stored /s"], ["Errors"], ["Acknowledged till"], ["Highest seen"], ["Missing"], ["Lost"], ["Lag"], ["Last seen"]]}>
      {services.map((s) => (
        <tr key={`${s.service} ${s.epoch}`}>
          <td>
            <Link href={`/services/${encodeURIComponent(s.service)}`}>{s.service}</Link>
          </td>
          <td>
            <StateSignal state={s.state} />
          </td>
          <td className="n">{rate(s.eps)}</td>
          <td className="n">{percent(s.errorRate)}</td>
          <td className="n">{count(s.ackTill)}</td>
          <td className="n">{count(s.highestSeen)}</td>
          <td className="n">{s.missingCount ? <b className="level-warning">{count(s.missingCount)}</b> : 0}</td>
          <td className="n">{count(s.lostCount)}</td>
          <td className="n">{s.lagMs ? duration(s.lagMs) : "–"}</td>
          <td className="n">{when(s.lastSeen)}</td>
        </tr>
      ))}
    </Table>
  );
}

const WORKER = { idle: "good", busy: "busy", dead: "bad" } as const;

export function WorkersTable({ workers }: { workers: Worker[] }) {
  if (workers.length === 0)
    return (
      <Empty>
        <p>No worker has ever been seen: what comes in waits in the queue. Start one with</p>
        <code>tracehub worker</code>
      </Empty>
    );
  return (
    <Table columns={["Worker", "State", ["Jobs done"], ["Last heartbeat"]]}>
      {workers.map((w) => (
        <tr key={w.id}>
          <td>{w.id}</td>
          <td>
            <span className={`signal ${WORKER[w.status]}`}>{w.status}</span>
          </td>
          <td className="n">{count(w.jobsDone)}</td>
          <td className="n">{when(w.lastHeartbeat)}</td>
        </tr>
      ))}
    </Table>
  );
}
