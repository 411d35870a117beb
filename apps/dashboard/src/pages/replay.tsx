import { useTitle } from "../title";
import { type FormEvent, useState } from "react";
import { useSearchParams } from "wouter";
import { ask, Refusal, useAsked } from "../api";
import { when, count, millis, range } from "../format";
import { Confirm } from "../parts/confirm";
import { Panel, Segmented } from "../parts/panel";
import { Empty, When } from "../parts/states";
import { Table } from "../parts/table";
import { snapshot } from "../live";
import { useStore } from "../store";
import type { Replay, ReplayStatus } from "../types";

interface Rows {
  total: number;
  limit: number;
  offset: number;
  replays: Replay[];
}

const STATUSES = [["", "All"], ["pending", "Pending"], ["running", "Running"], ["completed", "Completed"], ["lost", "Lost"]] as const;
const SIGNAL: Record<ReplayStatus, string> = { pending: "warn", running: "busy", completed: "good", lost: "bad" };
const PAGE = 50;

export function ReplayPage() {
  useTitle("Replay");
  const [params, setParams] = useSearchParams();
  const status = STATUSES.find(([name]) => name === params.get("status"))?.[0] ?? "";
  const service = params.get("service") ?? "";
  const offset = Math.max(0, Math.floor(Number(params.get("offset")) || 0));
  const query = new URLSearchParams({ limit: String(PAGE), offset: String(offset) });
  if (status) query.set("status", status);
  if (service) query.set("service", service);
  const asked = useAsked<Rows>(`/replay?${query}`, 1_000);
  const counts = useStore(snapshot)?.replays;
  const put = (name: string, value: string) =>
    setParams((before) => {
      const next = new URLSearchParams(before);
      if (value) next.set(name, value);
      else next.delete(name);
      if (name !== "offset") next.delete("offset");
      return next;
    }, { replace: true });
  return (
    <div className="page">
      <div className="head">
        <h1>Replay</h1>
        <Segmented
          label="Status"
          value={status}
          options={STATUSES.map(([name, text]) => [name, name && counts ? `${text} ${count(counts[name])}` : text] as const)}
          onChange={(next) => put("status", next)}
        />
        <div className="rest">
          <input type="search" aria-label="Service" placeholder="Service" value={service} onChange={(e) => put("service", e.target.value)} />
        </div>
      </div>
      <Ask service={service} done={asked.again} />
      <div className="panel">
        <When asked={asked} what="the replays">
          {(rows) => <Replays rows={rows} changed={asked.again} page={(at) => put("offset", at ? String(at) : "")} filtered={Boolean(status || service)} />}
        </When>
      </div>
    </div>
  );
}

/** A whole number as people write it, else NaN; `1e3` and `0x10` are none. */
function whole(text: FormDataEntryValue | string | null): number {
  const trimmed = String(text ?? "").trim();
  return /^\d+$/.test(trimmed) ? Number(trimmed) : NaN;
}

function Ask({ service, done }: { service: string; done: () => void }) {
  const [said, setSaid] = useState<{ good: boolean; text: string; field?: string | undefined }>();
  const services = useStore(snapshot)?.services ?? [];
  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const name = String(form.get("service") ?? "").trim();
    const [from, to] = [whole(form.get("from")), whole(form.get("to"))];
    const epoch = String(form.get("epoch") ?? "").trim();
    const wrong = (text: string, field: string) => setSaid({ good: false, text, field });
    if (!name) return wrong("Name a service.", "service");
    if (!Number.isSafeInteger(from) || from < 1) return wrong("From must be a whole number of at least 1.", "from");
    if (!Number.isSafeInteger(to) || to < from) return wrong("To must be a whole number, not below from.", "to");
    if (epoch && Number.isNaN(whole(epoch))) return wrong("Epoch must be a whole number.", "epoch");
    try {
      const { id } = await ask<{ id: number }>("/replay", { service: name, from, to, ...(epoch ? { epoch: whole(epoch) } : {}) });
      setSaid({ good: true, text: `Replay ${id} was asked for.` });
      done();
    } catch (error) {
      const refusal = error as Refusal;
      setSaid({ good: false, text: refusal.message, field: refusal.field });
    }
  };
  const invalid = (field: string) => (said && !said.good && said.field === field ? true : undefined);
  return (
    <Panel title="Ask a producer's buffer for a range">
      <form className="inline" onSubmit={submit} noValidate>
        <input name="service" aria-label="Service of the range" placeholder="Service" list="known-services" defaultValue={service} aria-invalid={invalid("service")} />
        <datalist id="known-services">
          {services.map((s) => (
            <option key={s.service} value={s.service} />
          ))}
        </datalist>
        <input name="from" aria-label="From" placeholder="From" inputMode="numeric" size={10} aria-invalid={invalid("from")} />
        <input name="to" aria-label="To" placeholder="To" inputMode="numeric" size={10} aria-invalid={invalid("to")} />
        <input name="epoch" aria-label="Epoch" placeholder="Epoch: newest" inputMode="numeric" size={13} aria-invalid={invalid("epoch")} />
        <button type="submit" className="main">
          Replay
        </button>
        <span role="status">{said && <span className={`signal ${said.good ? "good" : "bad"}`}>{said.text}</span>}</span>
      </form>
    </Panel>
  );
}

function Replays({ rows, changed, page, filtered }: { rows: Rows; changed: () => void; page: (offset: number) => void; filtered: boolean }) {
  const [signing, setSigning] = useState<Replay | null>(null);
  if (rows.replays.length === 0 && rows.offset > 0)
    return (
      <Empty>
        <p>There are not so many.</p>
        <button type="button" onClick={() => page(0)}>
          To the newest
        </button>
      </Empty>
    );
  if (rows.replays.length === 0 && signing === null)
    return (
      <Empty>
        <p>{filtered ? "No replay is like this." : "No gap was ever seen. When one opens, its replay appears here by itself."}</p>
      </Empty>
    );
  return (
    <>
      <Table columns={["Id", "Service", ["Range"], "Status", "By", ["Attempts"], ["Stored"], ["Took"], ["Since"], "Says", "Decision"]}>
        {rows.replays.map((row) => (
          <tr key={row.id}>
            <td>{row.id}</td>
            <td>{row.service}</td>
            <td className="n">
              {range([row.from, row.to])}
              {row.epoch !== 0 && <span className="soft small"> epoch {row.epoch}</span>}
            </td>
            <td>
              <span className={`signal ${SIGNAL[row.status]}`}>{row.status}</span>
            </td>
            <td>{row.requestedBy === "gap" ? "a gap" : "hand"}</td>
            <td className="n">{count(row.attempts)}</td>
            <td className="n">{count(row.inserted)}</td>
            <td className="n">{millis(row.latencyMs)}</td>
            <td className="n">{when(row.createdAt)}</td>
            <td className="soft">{row.error ?? ""}</td>
            <td>{(row.status === "pending" || row.status === "running") && (
                <button type="button" className="danger" onClick={() => setSigning(row)}>
                  Sign off
                </button>
              )}</td>
          </tr>
        ))}
      </Table>
      {rows.total > rows.replays.length && (
        <p className="inline">
          <button type="button" disabled={rows.offset === 0} onClick={() => page(Math.max(0, rows.offset - PAGE))}>
            Newer
          </button>
          <span className="soft">
            {count(rows.offset + 1)} – {count(rows.offset + rows.replays.length)} of {count(rows.total)}
          </span>
          <button type="button" disabled={rows.offset + rows.replays.length >= rows.total} onClick={() => page(rows.offset + PAGE)}>
            Older
          </button>
        </p>
      )}
      {signing && <SignOff key={signing.id} row={signing} close={() => setSigning(null)} changed={changed} />}
    </>
  );
}

function SignOff({ row, close, changed }: { row: Replay; close: () => void; changed: () => void }) {
  const sign = async () => {
    await ask(`/replay/${row.id}/abandon`, {});
    changed();
  };
  return (
    <Confirm title="Sign off as lost" action="Sign off as lost" keep="Keep asking" act={sign} close={close}>
      <p>
        What of {row.service} {range([row.from, row.to])}
        {row.epoch !== 0 && <> in epoch {row.epoch}</>} is still missing will be written into the ledger as lost, signed by the operator, and nobody asks for it any more. The service's
        acknowledgement moves past it, so its producer forgets these entries. Should one arrive after all, it is stored and the loss marked as found.
      </p>
    </Confirm>
  );
}
