/** Keys, made and ended here, and the tenants that are known. */

import { useEffect, useRef, useState } from "react";
import { ask, type Data, staying, useAsked } from "../api";
import { count, plural, when } from "../format";
import { Confirm } from "../parts/confirm";
import { Checks, Form, numberOf, Text, textOf } from "../parts/form";
import { Copy, Name, Tenant } from "../parts/words";
import { Known, type Me, NeedsAdmin } from "../parts/me";
import { Panel } from "../parts/panel";
import { Empty, When } from "../parts/states";
import { Table } from "../parts/table";
import { useTitle } from "../title";
import { useNow } from "../now";
import type { ApiKey, Policy } from "../types";

const LOOK_MS = 5_000;
const KEYS = "/api/v1/keys";
const SCOPES = [["write", "write"], ["read", "read"], ["admin", "admin: everything, settings too"]] as const;
const DOORS = ["ingest", "logs", "otlp", "loki", "logstream", "errors", "sentry", "profiles"].map((door) => [door, door] as const);

type Made = ApiKey & { key: string };

export function KeysPage() {
  useTitle("Keys");
  return (
    <div className="page">
      <h1>Keys and tenants</h1>
      <Known>
        {(me) =>
          me.admin ? (
            <Settings me={me} />
          ) : (
            <div className="panel">
              <NeedsAdmin what="Seeing and changing keys" />
            </div>
          )
        }
      </Known>
    </div>
  );
}

function Settings({ me }: { me: Me }) {
  const asked = useAsked<Data<ApiKey[]>>(KEYS, LOOK_MS);
  const [made, setMade] = useState<Made>();
  return (
    <>
      <When asked={asked} what="the keys">
        {({ data }) => (
          <>
            <Panel title="Keys">
              <Keys keys={data} me={me} changed={asked.again} />
            </Panel>
            <NewKey me={me} isFirst={data.length === 0 && me.keyId === null} made={setMade} />
            <Tenants me={me} keys={data} />
          </>
        )}
      </When>
      {made && (
        <ShownOnce
          made={made}
          close={() => {
            setMade(undefined);
            asked.again();
          }}
        />
      )}
    </>
  );
}

function Keys({ keys, me, changed }: { keys: ApiKey[]; me: Me; changed: () => void }) {
  const [ending, setEnding] = useState<ApiKey>();
  const now = useNow(LOOK_MS);
  return (
    <>
      {keys.length === 0 ? (
        <Empty>
          <p>None is kept in the database. Keys that the server was given by its environment are not listed.</p>
        </Empty>
      ) : (
        <Table columns={["Name", "Scopes", "Tenant", "Service", "Doors", ["Entries/s"], "Expires", ["Created"], "Actions"]}>
          {keys.map((key) => (
            <tr key={key.id}>
              <td>
                <Name text={key.name} />
                {key.id === me.keyId && <span className="soft small"> yours</span>}
              </td>
              <td>{key.scopes.join(", ")}</td>
              <td>
                <Tenant id={key.tenant_id} />
              </td>
              <td>{key.app_key === null ? <span className="soft">any</span> : <Name text={key.app_key} />}</td>
              <td>{key.doors?.join(", ") ?? <span className="soft">all</span>}</td>
              <td className="n">{key.rate === null ? <span className="soft">no limit</span> : count(key.rate)}</td>
              <td>
                <Expiry at={key.expires_at} now={now} />
              </td>
              <td className="n">{when(key.created_at)}</td>
              <td>
                <button type="button" className="danger" aria-label={`Revoke ${key.name}`} onClick={() => setEnding(key)}>
                  Revoke
                </button>
              </td>
            </tr>
          ))}
        </Table>
      )}
      {ending && (
        <Confirm
          key={ending.id}
          title="Revoke this key"
          action="Revoke it"
          keep="Keep it"
          close={() => setEnding(undefined)}
          act={async () => {
            await ask(`${KEYS}/${ending.id}`, {}, "DELETE");
            changed();
          }}
        >
          <p>
            Whoever shows “<Name text={ending.name} />” is refused within 5 s; its streams, sockets and log-ins end. It cannot be taken back.
            {ending.id === me.keyId && <b> It is the key that you are here with.</b>}
          </p>
        </Confirm>
      )}
    </>
  );
}

function Expiry({ at, now }: { at: string | null; now: number }) {
  if (at === null) return <span className="soft">never</span>;
  return Date.parse(at) <= now ? <span className="signal bad">{when(at)}</span> : <>{when(at)}</>;
}

function NewKey({ me, isFirst, made }: { me: Me; isFirst: boolean; made: (key: Made) => void }) {
  const [round, setRound] = useState(0); // a new form after each key
  const send = async (given: FormData) => {
    const expires = textOf(given, "expires_at");
    const doors = given.getAll("doors");
    const { data } = await ask<Data<Made>>(KEYS, {
      name: textOf(given, "name"),
      scopes: given.getAll("scopes"),
      tenant_id: textOf(given, "tenant_id"),
      app_key: textOf(given, "app_key"),
      doors: doors.length > 0 ? doors : undefined,
      rate: numberOf(given, "rate"),
      expires_at: expires && new Date(expires).toISOString(),
    });
    made(data);
    setRound(round + 1);
  };
  return (
    <Panel title="New key">
      {isFirst && (
        <p className="signal warn wrap">
          This server has no key, so all of it is open to this machine. The first one closes what it grants, and settings at once: make an admin key first, or they can be changed by the command line only.
        </p>
      )}
      <Form key={round} label="New key" submit="Create" send={send}>
        <div className="form-grid">
          <Text label="Name" name="name" maxLength={100} />
          {me.allTenants && <Text label="Tenant" name="tenant_id" hint="A name or a UUID; empty: any." />}
          <Text label="Service" name="app_key" maxLength={100} defaultValue={me.appKey ?? ""} hint="The only one that it writes and reads; empty: any." />
          <Text label="Entries per second" name="rate" inputMode="decimal" hint="Empty: no limit." />
          <Text label="Expires" name="expires_at" type="datetime-local" step="1" hint="Empty: never." />
        </div>
        <Checks legend="Scopes" name="scopes" options={SCOPES} checked={[isFirst ? "admin" : "write"]} />
        <Checks legend="Doors" name="doors" options={DOORS} checked={[]} hint="None chosen: all of them." />
      </Form>
    </Panel>
  );
}

/** The one time that a key is seen. Nothing but its own button closes it, not even the end of what was open before. */
function ShownOnce({ made, close }: { made: Made; close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    staying.set(true);
    dialog.current?.showModal();
    return () => staying.set(false);
  }, []);
  const done = () => {
    staying.set(false);
    close();
  };
  return (
    <dialog ref={dialog} aria-label="The new key" closedby="none" onCancel={(event) => event.preventDefault()} onClose={done}>
      <div className="stack">
        <h1>
          The key “<Name text={made.name} />”
        </h1>
        <p>It is shown this once and kept nowhere: who loses it makes another.</p>
        <code className="secret">{made.key}</code>
        <div className="inline">
          <Copy text={made.key} what="Key" />
          <button type="button" className="main" onClick={done}>
            I have it
          </button>
        </div>
      </div>
    </dialog>
  );
}

function Tenants({ me, keys }: { me: Me; keys: ApiKey[] }) {
  const policies = useAsked<Data<Policy[]>>("/api/v1/retention", LOOK_MS);
  const [found, setFound] = useState<{ name: string; id: string }>();
  const look = async (given: FormData) => {
    const name = textOf(given, "tenant_id") ?? "";
    if (!name) return setFound(undefined);
    const { tenantId } = await ask<Me>(`/whoami?tenant_id=${encodeURIComponent(name)}`);
    setFound({ name, id: tenantId });
  };
  return (
    <Panel title="Tenants">
      <p className="soft">A tenant is there as soon as something is written for it. A name stands for a UUID, by which all answers call it.</p>
      {me.allTenants && (
        <>
          <Form label="Look a tenant up" submit="Look up" send={look} short>
            <Text label="Name of a tenant" name="tenant_id" />
          </Form>
          <p role="status">
            {found && (
              <>
                <Name text={found.name} /> is <code className="long">{found.id}</code>
              </>
            )}
          </p>
        </>
      )}
      <When asked={policies} what="the tenants">
        {({ data }) => <TenantTable own={me.tenantId} keys={keys} policies={data} found={found?.id} />}
      </When>
    </Panel>
  );
}

function TenantTable({ own, keys, policies, found }: { own: string; keys: ApiKey[]; policies: Policy[]; found: string | undefined }) {
  const bound = keys.flatMap((key) => key.tenant_id ?? []);
  const all = [...new Set([own, ...policies.map((policy) => policy.tenant_id), ...bound, ...(found ? [found] : [])])];
  return (
    <Table columns={["Tenant", ["Keys bound to it"], "Retention"]}>
      {all.sort().map((id) => {
        const policy = policies.find((one) => one.tenant_id === id);
        return (
          <tr key={id} aria-current={id === found || undefined}>
            <td>
              <Tenant id={id} />
            </td>
            <td className="n">{count(bound.filter((one) => one === id).length)}</td>
            <td>{policy ? `${plural(policy.retention_days, "day")}, ${count(policy.max_size_gb)} GB` : <span className="soft">the server's own</span>}</td>
          </tr>
        );
      })}
    </Table>
  );
}
