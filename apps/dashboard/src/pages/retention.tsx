/** How long entries are kept: a policy per tenant, and the runs that delete what is beyond it. */

import { useState } from "react";
import { ask, type Data, type Refusal, useAsked } from "../api";
import { count, duration, when } from "../format";
import { Confirm } from "../parts/confirm";
import { Check, Form, numberOf, Text, textOf } from "../parts/form";
import { Name, Tenant } from "../parts/words";
import { Known, type Me, NeedsAdmin } from "../parts/me";
import { Panel } from "../parts/panel";
import { Empty, When } from "../parts/states";
import { Table } from "../parts/table";
import { useTitle } from "../title";
import type { Policy, Run } from "../types";

const LOOK_MS = 5_000;
const RUNNING_MS = 1_000;
const RETENTION = "/api/v1/retention";

const gigabytes = new Intl.NumberFormat("en-US", { maximumFractionDigits: 6 });

export function RetentionPage() {
  useTitle("Retention");
  return (
    <div className="page">
      <h1>Retention</h1>
      <Known>{(me) => <Settings me={me} />}</Known>
    </div>
  );
}

function Settings({ me }: { me: Me }) {
  const asked = useAsked<Data<Policy[]>>(RETENTION, LOOK_MS);
  const [editing, setEditing] = useState<Policy | "new">();
  const done = () => {
    setEditing(undefined);
    asked.again();
  };
  const mayChange = me.admin && me.appKey === null; // a policy is about all of a tenant
  return (
    <>
      <Panel
        title="Policies"
        rest={
          mayChange && (
            <button type="button" onClick={() => setEditing("new")}>
              New policy
            </button>
          )
        }
      >
        <p className="soft">
          A tenant without a policy follows the server's own: <code>LOG_RETENTION_DAYS</code> (30 unless it is set), and <code>LOG_MAX_SIZE_GB</code> (50) for all such tenants together.
        </p>
        <When asked={asked} what="the policies">
          {({ data }) => <Policies policies={data} edit={mayChange ? setEditing : undefined} changed={asked.again} />}
        </When>
      </Panel>
      {editing && mayChange && <PolicyForm key={editing === "new" ? "new" : editing.id} policy={editing === "new" ? undefined : editing} me={me} done={done} cancel={() => setEditing(undefined)} />}
      {mayChange ? (
        <Runs />
      ) : (
        <div className="panel">
          {me.admin ? (
            <Empty>
              <p>The key of this log-in is for one service. Retention is about all of a tenant, and is changed with a key of the tenant.</p>
            </Empty>
          ) : (
            <NeedsAdmin what="Changing policies, and seeing and starting runs," />
          )}
        </div>
      )}
    </>
  );
}

function Policies({ policies, edit, changed }: { policies: Policy[]; edit: ((policy: Policy) => void) | undefined; changed: () => void }) {
  const [ending, setEnding] = useState<Policy>();
  return (
    <>
      {policies.length === 0 ? (
        <Empty>
          <p>There is no policy that you could see.</p>
        </Empty>
      ) : (
        <Table columns={["Tenant", ["Days"], ["Size, GB"], "Archive", ["Changed"], ...(edit ? ["Actions"] : [])]}>
          {policies.map((policy) => (
            <tr key={policy.id}>
              <td>
                <Tenant id={policy.tenant_id} />
              </td>
              <td className="n">{count(policy.retention_days)}</td>
              <td className="n">{gigabytes.format(policy.max_size_gb)}</td>
              <td>
                {policy.archive_enabled ? <span className="signal good">on,</span> : <span className="signal idle">off</span>} {policy.archive_enabled && <Name text={policy.archive_path ?? ""} />}
              </td>
              <td className="n">{when(policy.updated_at)}</td>
              {edit && (
                <td>
                  <span className="inline">
                    <button type="button" onClick={() => edit(policy)}>
                      Edit
                    </button>
                    <button type="button" className="danger" onClick={() => setEnding(policy)}>
                      Delete
                    </button>
                  </span>
                </td>
              )}
            </tr>
          ))}
        </Table>
      )}
      {ending && (
        <Confirm
          key={ending.id}
          title="Delete this policy"
          action="Delete it"
          keep="Keep it"
          close={() => setEnding(undefined)}
          act={async () => {
            await ask(`${RETENTION}/${ending.id}`, {}, "DELETE");
            changed();
          }}
        >
          <p>
            The tenant <Tenant id={ending.tenant_id} /> follows the server's own days and size from the next run on. What is beyond these is then deleted
            {ending.archive_enabled && ", and no longer archived"}.
          </p>
        </Confirm>
      )}
    </>
  );
}

function PolicyForm({ policy, me, done, cancel }: { policy: Policy | undefined; me: Me; done: () => void; cancel: () => void }) {
  const send = async (given: FormData) => {
    const body = {
      retention_days: numberOf(given, "retention_days"),
      max_size_gb: numberOf(given, "max_size_gb"),
      archive_enabled: given.has("archive_enabled"),
      archive_path: textOf(given, "archive_path") ?? null,
    };
    if (policy) await ask(`${RETENTION}/${policy.id}`, body, "PUT");
    else await ask(RETENTION, { ...body, tenant_id: textOf(given, "tenant_id") });
    done();
  };
  const title = policy ? "Change the policy" : "New policy";
  return (
    <Panel title={title}>
      <Form label={title} submit={policy ? "Save" : "Create"} send={send} cancel={cancel}>
        {policy && (
          <p>
            Of the tenant <Tenant id={policy.tenant_id} />
          </p>
        )}
        <div className="form-grid">
          {!policy && me.allTenants && <Text label="Tenant" name="tenant_id" hint="A name or a UUID; empty: the default one." autoFocus />}
          <Text label="Days" name="retention_days" inputMode="numeric" defaultValue={policy?.retention_days ?? 30} hint="Older entries are deleted." autoFocus={policy !== undefined} />
          <Text label="Size, GB" name="max_size_gb" inputMode="decimal" defaultValue={policy?.max_size_gb ?? 10} hint="Beyond it the oldest entries are deleted." />
          <Text label="Archive path" name="archive_path" maxLength={500} defaultValue={policy?.archive_path ?? ""} hint="A folder below the server's archive, or a URL that it allows." wide />
        </div>
        <Check name="archive_enabled" label="Archive entries before they are deleted" checked={policy?.archive_enabled ?? false} />
      </Form>
    </Panel>
  );
}

function Runs() {
  const [everyMs, setEveryMs] = useState(LOOK_MS);
  const asked = useAsked<Data<Run[]>>(`${RETENTION}/runs`, everyMs);
  const [said, setSaid] = useState<{ good: boolean; text: string }>();
  const [sure, setSure] = useState(false);
  const running = asked.value?.data.some((run) => run.finished_at === null) ?? false;
  if (running !== (everyMs === RUNNING_MS)) setEveryMs(running ? RUNNING_MS : LOOK_MS);
  const start = async (dryRun: boolean) => {
    await ask(`${RETENTION}/run?dry_run=${dryRun}`, {});
    setSaid({ good: true, text: dryRun ? "A dry run was asked for." : "A run was asked for." });
    asked.again();
  };
  const tryDry = () => start(true).catch((reason: Refusal) => setSaid({ good: false, text: reason.message }));
  return (
    <Panel
      title="Runs"
      rest={
        <>
          <span role="status">{said && <span className={`signal ${said.good ? "good" : "bad"}`}>{said.text}</span>}</span>
          <button type="button" onClick={tryDry}>
            Dry run
          </button>
          <button type="button" className="danger" onClick={() => setSure(true)}>
            Run now
          </button>
        </>
      }
    >
      <When asked={asked} what="the runs">{({ data }) => <RunTable runs={data} />}</When>
      {sure && (
        <Confirm title="Run retention now" action="Run now" keep="Not now" close={() => setSure(false)} act={() => start(false)}>
          <p>Every entry beyond its tenant's days or size is deleted for good, archived first where its policy says so. A dry run tells how many these are.</p>
        </Confirm>
      )}
    </Panel>
  );
}

function RunTable({ runs }: { runs: Run[] }) {
  if (runs.length === 0)
    return (
      <Empty>
        <p>None yet. They come by schedule, or when somebody asks; a dry run only counts.</p>
      </Empty>
    );
  return (
    <Table columns={["Started", "Kind", "State", ["Tenants"], ["Archived"], ["Deleted"], ["Partitions dropped"], ["Took"], "Says"]}>
      {runs.map((run) => (
        <tr key={run.id}>
          <td>{run.started_at ? when(run.started_at) : "–"}</td>
          <td>{run.dry_run ? "dry run: what it would do" : "run"}</td>
          <td>
            <RunState run={run} />
          </td>
          <td className="n">{count(run.tenants)}</td>
          <td className="n">{count(run.archived)}</td>
          <td className="n">{count(run.deleted_rows)}</td>
          <td className="n">{count(run.dropped_partitions)}</td>
          <td className="n">{run.started_at && run.finished_at ? duration(Date.parse(run.finished_at) - Date.parse(run.started_at)) : "–"}</td>
          <td className="soft">{run.error ?? ""}</td>
        </tr>
      ))}
    </Table>
  );
}

function RunState({ run }: { run: Run }) {
  if (run.finished_at !== null) return run.error ? <span className="signal bad">done in part</span> : <span className="signal good">done</span>;
  return run.started_at === null ? <span className="signal idle">waits for a worker</span> : <span className="signal busy">running</span>;
}
