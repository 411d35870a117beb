/** One log entry: its line, and everything that is known of it. Text is only ever text. */

import { memo, useState } from "react";
import { ago, ulid, when } from "../format";
import { levelOf } from "../logfilter";
import { useNow } from "../now";
import { useStore } from "../store";
import { relative } from "../times";
import type { LogEntry } from "../types";
import { JsonTree } from "./json";
import { Surrounding } from "./surrounding";
import { Copy } from "./words";

export const ROW = 24;
export const DETAIL = 340;
const TRACE_CHARS = 8;
const AGO_MS = 5_000;
const LINE_CHARS = 1_000; // more than any screen is wide

export type Put = (changes: Record<string, string>) => void;

export const LogRow = memo(function LogRow({ entry, open, toggle }: { entry: LogEntry; open: boolean; toggle: () => void }) {
  return (
    <button type="button" className={`log-row ${open ? "open" : ""}`} onClick={toggle} aria-expanded={open}>
      <Line entry={entry} />
    </button>
  );
});

/** The beginning of an entry's trace, beside its row: a row is a button, and no button is within another. */
export function Trace({ id }: { id: string }) {
  const [copied, setCopied] = useState(false);
  const copy = () => void navigator.clipboard?.writeText(id).then(() => setCopied(true), () => setCopied(false));
  return (
    <button type="button" className="roomy log-trace" onClick={copy} title={`Copy the trace ID ${id}`} tabIndex={-1}>
      {copied ? "copied" : `${id.slice(0, TRACE_CHARS)}…`}
    </button>
  );
}

function Ago({ at }: { at: string }) {
  const now = useNow(AGO_MS);
  return <>{ago(at, now)}</>;
}

export function Line({ entry }: { entry: LogEntry }) {
  const isRelative = useStore(relative);
  return (
    <>
      <span className="soft" title={`${entry.timestamp} UTC, here ${new Date(entry.timestamp).toString()}`}>
        {isRelative ? <Ago at={entry.timestamp} /> : when(entry.timestamp, true)}
      </span>
      <span className={`level-${levelOf(entry.severity)}`}>{entry.level_text ?? entry.level}</span>
      <span className="service soft">{entry.service_name}</span>
      <span className="roomy soft">{[entry.app_id, entry.category].filter(Boolean).join(" · ")}</span>
      <span>{entry.message.length > LINE_CHARS ? `${entry.message.slice(0, LINE_CHARS)} …` : entry.message}</span>
    </>
  );
}

export function LogDetail({ entry, put }: { entry: LogEntry; put: Put }) {
  const { metadata, ...fields } = entry;
  const [around, setAround] = useState(false);
  return (
    <div className="log-detail" style={{ top: ROW, height: DETAIL }}>
      <div className="inline">
        <Copy text={() => JSON.stringify(entry, null, 2)} what="JSON" title="Copy as JSON" />
        <Copy text={`curl ${window.location.origin}/api/v1/logs/${entry.id}`} what="curl" title="Copy as curl" />
        <button type="button" aria-pressed={around} onClick={() => setAround(!around)}>
          Surrounding lines
        </button>
        {entry.trace_id !== undefined && (
          <button type="button" onClick={() => put({ trace_id: entry.trace_id! })}>
            Follow this trace
          </button>
        )}
        {entry.request_id !== undefined && (
          <button type="button" onClick={() => put({ request_id: entry.request_id! })}>
            Follow this request
          </button>
        )}
        {typeof entry.batch_id === "string" && (
          <button type="button" onClick={() => put({ batch_id: entry.batch_id as string })}>
            View all in batch
          </button>
        )}
      </div>
      {around ? (
        <Surrounding entry={entry} />
      ) : (
        <>
          <dl className="fields">
            {Object.entries(fields).map(([name, value]) => (
              <Field key={name} name={name} value={value} />
            ))}
            <Field name="id as ULID" value={ulid(entry.id)} />
          </dl>
          {metadata !== undefined && <JsonTree name="attrs" value={metadata} open />}
        </>
      )}
    </div>
  );
}

function Field({ name, value }: { name: string; value: unknown }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{typeof value === "object" ? JSON.stringify(value) : String(value)}</dd>
    </>
  );
}
