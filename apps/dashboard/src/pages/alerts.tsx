/** What somebody wants to be told of: all alerts, and a new one. */

import { useState } from "react";
import { Link, useLocation } from "wouter";
import { wordsOf } from "../alerts";
import { ask, type Data, type Refusal, useAsked } from "../api";
import { count, plural, when } from "../format";
import { AlertForm } from "../parts/alertform";
import { Confirm } from "../parts/confirm";
import { Name, Tenant } from "../parts/words";
import { Known, type Me, NeedsAdmin } from "../parts/me";
import { Panel } from "../parts/panel";
import { Empty, When } from "../parts/states";
import { Table } from "../parts/table";
import { useTitle } from "../title";
import type { Alert, Filter } from "../types";

const LOOK_MS = 3_000;
export const ALERTS = "/api/v1/alerts";

export function AlertsPage() {
  useTitle("Alerts");
  return (
    <div className="page">
      <h1>Alerts</h1>
      <Known>{(me) => <Settings me={me} />}</Known>
    </div>
  );
}

function Settings({ me }: { me: Me }) {
  const asked = useAsked<Data<Alert[]>>(`${ALERTS}${me.allTenants ? "?all_tenants=true" : ""}`, LOOK_MS);
  const [making, setMaking] = useState(false);
  const [, go] = useLocation();
  const make = async (body: object) => {
    const { data } = await ask<Data<Alert>>(ALERTS, body);
    go(`/alerts/${data.id}`);
  };
  return (
    <>
      {making && me.admin && (
        <Panel title="New alert">
          <AlertForm tenant={me.allTenants} send={make} cancel={() => setMaking(false)} />
        </Panel>
      )}
      <Panel
        title="Rules"
        rest={
          me.admin &&
          !making && (
            <button type="button" onClick={() => setMaking(true)}>
              New alert
            </button>
          )
        }
      >
        <When asked={asked} what="the alerts">
          {({ data }) => <Alerts alerts={data} me={me} changed={asked.again} />}
        </When>
      </Panel>
      {!me.admin && (
        <div className="panel">
          <NeedsAdmin what="Making and changing alerts" />
        </div>
      )}
    </>
  );
}

function Alerts({ alerts, me, changed }: { alerts: Alert[]; me: Me; changed: () => void }) {
  if (alerts.length === 0)
    return (
      <Empty>
        <p>None yet. An alert counts entries that are like something, and tells somebody when there are too many of them.</p>
      </Empty>
    );
  return (
    <Table columns={["Name", "State", "Counts", ["Triggers at"], "Severity", ...(me.allTenants ? ["Tenant"] : []), ["Last triggered"], ...(me.admin ? ["Actions"] : [])]}>
      {alerts.map((alert) => (
        <tr key={alert.id}>
          <td>
            <Link href={`/alerts/${alert.id}`}>
              <Name text={alert.name} />
            </Link>
          </td>
          <td>
            <Enabled alert={alert} />
          </td>
          <td>
            <Counted filter={alert.filter} />
          </td>
          <td className="n">
            {count(alert.threshold)} in {alert.window_mins} min
          </td>
          <td>{alert.severity}</td>
          {me.allTenants && (
            <td>
              <Tenant id={alert.tenant_id} />
            </td>
          )}
          <td className="n">{alert.last_triggered ? when(alert.last_triggered) : <span className="soft">never</span>}</td>
          {me.admin && (
            <td>
              <Actions alert={alert} changed={changed} deleted={changed} />
            </td>
          )}
        </tr>
      ))}
    </Table>
  );
}

export function Enabled({ alert }: { alert: Alert }) {
  return alert.enabled ? <span className="signal good">enabled</span> : <span className="signal idle">disabled</span>;
}

export function Counted({ filter }: { filter: Filter }) {
  const words = wordsOf(filter);
  return words.length === 0 ? <span className="soft">every entry</span> : <Name text={words.join(", ")} />;
}

/** What is done to an alert without changing what it says. */
export function Actions({ alert, changed, deleted }: { alert: Alert; changed: () => void; deleted: () => void }) {
  const [said, setSaid] = useState<{ good: boolean; text: string }>();
  const [ending, setEnding] = useState(false);
  const act = async (path: string, told: (answer: unknown) => string) => {
    try {
      const answer = await ask(`${ALERTS}/${alert.id}/${path}`, {});
      setSaid({ good: true, text: told(answer) });
      changed();
    } catch (reason) {
      setSaid({ good: false, text: (reason as Refusal).message });
    }
  };
  const tested = (answer: unknown) => {
    const { deliveries } = (answer as Data<{ deliveries: string[] }>).data;
    return deliveries.length > 0 ? `${plural(deliveries.length, "delivery", "deliveries")} asked for` : "It has no channel to tell.";
  };
  const turn = alert.enabled ? "disable" : "enable";
  return (
    <div className="inline">
      <button type="button" aria-label={`Send a test of ${alert.name}`} onClick={() => act("test", tested)}>
        Send a test
      </button>
      <button type="button" aria-label={`${alert.enabled ? "Disable" : "Enable"} ${alert.name}`} onClick={() => act(turn, () => "")}>
        {alert.enabled ? "Disable" : "Enable"}
      </button>
      <button type="button" className="danger" aria-label={`Delete ${alert.name}`} onClick={() => setEnding(true)}>
        Delete
      </button>
      <span role="status">{said?.text && <span className={`signal ${said.good ? "good" : "bad"}`}>{said.text}</span>}</span>
      {ending && (
        <Confirm
          title="Delete this alert"
          action="Delete it"
          keep="Keep it"
          close={() => setEnding(false)}
          act={async () => {
            await ask(`${ALERTS}/${alert.id}`, {}, "DELETE");
            deleted();
          }}
        >
          <p>
            “<Name text={alert.name} />” is no longer looked for, and its deliveries are forgotten.
          </p>
        </Confirm>
      )}
    </div>
  );
}
