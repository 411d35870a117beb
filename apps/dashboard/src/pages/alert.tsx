/** One alert: what it says, what it counts, and what became of every message. */

import { type ReactNode, useState } from "react";
import { Link, useLocation, useSearchParams } from "wouter";
import { channelWords, logsOf } from "../alerts";
import { ask, type Data, useAsked } from "../api";
import { count, plural, when } from "../format";
import { AlertForm } from "../parts/alertform";
import { Name, Tenant } from "../parts/words";
import { Known, type Me, NeedsAdmin } from "../parts/me";
import { Panel } from "../parts/panel";
import { Empty, When } from "../parts/states";
import { Table } from "../parts/table";
import { useTitle } from "../title";
import type { Alert, Delivery } from "../types";
import { Actions, ALERTS, Counted, Enabled } from "./alerts";

const LOOK_MS = 2_000;
const PAGE = 50;
const SIGNAL: Record<Delivery["status"], string> = { pending: "busy", sent: "good", failed: "bad" };

export function AlertPage({ params: { id } }: { params: { id: string } }) {
  useTitle("Alert");
  const asked = useAsked<Data<Alert>>(`${ALERTS}/${encodeURIComponent(id)}`, LOOK_MS);
  return (
    <div className="page">
      <div className="head">
        <h1>{asked.value ? <Name text={asked.value.data.name} /> : "Alert"}</h1>
        <Link href="/alerts">All alerts</Link>
      </div>
      <Known>
        {(me) => (
          <When asked={asked} what="the alert">
            {({ data }) => <Shown alert={data} me={me} changed={asked.again} />}
          </When>
        )}
      </Known>
    </div>
  );
}

function Shown({ alert, me, changed }: { alert: Alert; me: Me; changed: () => void }) {
  const [editing, setEditing] = useState(false);
  const [, go] = useLocation();
  const save = async (body: object) => {
    await ask(`${ALERTS}/${alert.id}`, body, "PUT");
    setEditing(false);
    changed();
  };
  return (
    <>
      <Panel title="Rule" rest={me.admin && !editing && <button type="button" onClick={() => setEditing(true)}>Edit</button>}>
        {editing ? (
          <AlertForm alert={alert} tenant={false} send={save} cancel={() => setEditing(false)} />
        ) : (
          <div className="stack">
            <Facts alert={alert} me={me} />
            {me.admin ? <Actions alert={alert} changed={changed} deleted={() => go("/alerts")} /> : <NeedsAdmin what="Changing it" />}
          </div>
        )}
      </Panel>
      <Panel title="Deliveries">
        <Deliveries id={alert.id} />
      </Panel>
    </>
  );
}

function Facts({ alert, me }: { alert: Alert; me: Me }) {
  const facts: [string, ReactNode][] = [
    ["State", <Enabled alert={alert} />],
    ["Counts", <Counted filter={alert.filter} />],
    ["Triggers at", `${plural(alert.threshold, "entry", "entries")} within ${alert.window_mins} min, then is quiet for ${alert.cooldown_mins} min`],
    ["Severity", alert.severity],
    ["Tells", alert.channels.length === 0 ? "nobody: it has no channel" : alert.channels.map((channel, at) => <div key={at}>{channelWords(channel)}</div>)],
    ["Last triggered", alert.last_triggered ? when(alert.last_triggered) : "never"],
    ["Changed", when(alert.updated_at)],
    ["Tenant", <Tenant id={alert.tenant_id} />],
  ];
  const { href, wider } = logsOf(alert.filter);
  return (
    <>
      {alert.description && <p className="plain">{alert.description}</p>}
      <dl className="fields">
        {facts.map(([name, value]) => (
          <Fact key={name} name={name} value={value} />
        ))}
      </dl>
      <p>
        {alert.tenant_id === me.tenantId ? (
          <>
            <Link href={href}>The logs it counts</Link>
            {wider && <span className="soft small"> and others: that page cannot be asked for all that this alert asks.</span>}
          </>
        ) : (
          <span className="soft">The logs it counts are those of another tenant: a key of that one shows them.</span>
        )}
      </p>
    </>
  );
}

function Fact({ name, value }: { name: string; value: ReactNode }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </>
  );
}

function Deliveries({ id }: { id: string }) {
  const [params, setParams] = useSearchParams();
  const offset = Math.max(0, Math.floor(Number(params.get("offset")) || 0));
  const page = (at: number) => setParams(at > 0 ? { offset: String(at) } : {}, { replace: true });
  // One more than is shown tells whether there is a next page.
  const asked = useAsked<Data<Delivery[]>>(`${ALERTS}/${id}/deliveries?limit=${PAGE + 1}&offset=${offset}`, LOOK_MS);
  return (
    <When asked={asked} what="the deliveries">
      {({ data }) => (
        <>
          {data.length > 0 ? (
            <DeliveryTable deliveries={data.slice(0, PAGE)} />
          ) : (
            <Empty>
              <p>{offset > 0 ? "There are not so many." : "Nothing was sent in the last 30 days."}</p>
            </Empty>
          )}
          {(offset > 0 || data.length > PAGE) && (
            <p className="inline">
              <button type="button" disabled={offset === 0} onClick={() => page(offset - PAGE)}>
                Newer
              </button>
              <button type="button" disabled={data.length <= PAGE} onClick={() => page(offset + PAGE)}>
                Older
              </button>
            </p>
          )}
        </>
      )}
    </When>
  );
}

function DeliveryTable({ deliveries }: { deliveries: Delivery[] }) {
  return (
    <Table columns={["Channel", "Status", ["Attempts"], ["HTTP"], ["Asked for"], ["Finished"], ["Next attempt"], "Says"]}>
      {deliveries.map((one) => (
        <tr key={one.id}>
          <td>{one.type}</td>
          <td>
            <span className={`signal ${SIGNAL[one.status]}`}>{one.status}</span>
          </td>
          <td className="n">{count(one.attempts)}</td>
          <td className="n">{one.http_status ?? "–"}</td>
          <td className="n">{when(one.created_at)}</td>
          <td className="n">{one.finished_at ? when(one.finished_at) : "–"}</td>
          <td className="n">{one.next_attempt_at && one.status === "pending" ? when(one.next_attempt_at) : "–"}</td>
          <td className="soft">{one.error ?? ""}</td>
        </tr>
      ))}
    </Table>
  );
}
