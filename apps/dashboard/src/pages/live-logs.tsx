import { useVirtualizer } from "@tanstack/react-virtual";
import { memo, useEffect, useMemo, useRef, useState } from "react";
import { useSearchParams } from "wouter";
import { clock, count } from "../format";
import { LogFilter } from "../logfilter";
import { logs, logsVersion, snapshot } from "../live";
import { JsonTree } from "../parts/json";
import { Empty } from "../parts/states";
import { useStore } from "../store";
import type { LogEntry } from "../types";

const LEVELS = [["", "Any level"], ["1", "trace and up"], ["5", "debug and up"], ["9", "info and up"], ["13", "warn and up"], ["17", "error and up"]] as const;
const ROW = 24;
const DETAIL = 320;

export function LiveLogs() {
  const [params, setParams] = useSearchParams();
  const filter = useMemo(
    () => ({
      service: params.get("service") ?? "",
      severity: Number(params.get("severity")) || 0,
      text: params.get("text") ?? "",
      trace: params.get("trace_id") ?? "",
      request: params.get("request_id") ?? "",
    }),
    [params],
  );
  const version = useStore(logsVersion);
  const [pausedAt, setPausedAt] = useState<number | null>(null); // arrival number of the first that waits
  const [open, setOpen] = useState<number | null>(null);
  const kept = useRef(new LogFilter(logs));
  const until = pausedAt ?? logs.total;
  // The filter remembers what it has looked at, so a tick costs only what is new.
  const shown = useMemo(() => kept.current.matching(filter, until), [filter, until, version]);
  const put = (changes: Record<string, string>) =>
    setParams((before) => {
      const next = new URLSearchParams(before);
      for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
      return next;
    }, { replace: true });
  const waiting = pausedAt === null ? 0 : logs.total - pausedAt;
  return (
    <div className="logs">
      <div className="head">
        <h1>Live logs</h1>
        <button type="button" className={pausedAt === null ? "" : "main"} onClick={() => setPausedAt(pausedAt === null ? logs.total : null)}>
          {pausedAt === null ? "Pause" : `Resume (${count(waiting)} wait)`}
        </button>
        <span className="soft small" role="status">
          {count(shown.length)} of {count(until - logs.firstNumber)} shown
        </span>
        <Sampled />
      </div>
      <div className="inline" role="search">
        <input type="search" aria-label="Service" placeholder="Service" value={filter.service} onChange={(e) => put({ service: e.target.value })} size={14} list="live-services" />
        <Known />
        <select aria-label="Level" value={String(filter.severity || "")} onChange={(e) => put({ severity: e.target.value })}>
          {LEVELS.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
        <input type="search" aria-label="Text" placeholder="Text in the message" value={filter.text} onChange={(e) => put({ text: e.target.value })} size={24} />
        {(["trace", "request"] as const).map(
          (kind) =>
            filter[kind] && (
              <button type="button" key={kind} onClick={() => put({ [`${kind}_id`]: "" })} aria-label={`Stop following ${kind} ${filter[kind]}`}>
                {kind} <bdi className="mono">{filter[kind].slice(0, 12)}</bdi> ×
              </button>
            ),
        )}
      </div>
      {shown.length === 0 ? (
        <Empty>
          <p>{logs.length === 0 ? "Nothing was stored since this page was opened. New entries appear here as they are committed." : "Nothing of what came so far is like this."}</p>
        </Empty>
      ) : (
        <List numbers={shown} open={open} setOpen={setOpen} follow={put} live={pausedAt === null} pause={() => setPausedAt(logs.total)} resume={() => setPausedAt(null)} />
      )}
    </div>
  );
}

function Known() {
  const services = useStore(snapshot)?.services ?? [];
  return (
    <datalist id="live-services">
      {services.map((s) => (
        <option key={s.service} value={s.service} />
      ))}
    </datalist>
  );
}

function Sampled() {
  const live = useStore(snapshot)?.live;
  if (!live || (live.skipped === 0 && logs.skipped === 0)) return null;
  return (
    <span className="signal warn small">
      sampled: the server left {count(live.skipped + logs.skipped)} entries out of the live view; they are stored
    </span>
  );
}

interface ListProps {
  numbers: number[];
  open: number | null;
  setOpen: (next: number | null) => void;
  follow: (changes: Record<string, string>) => void;
  live: boolean;
  pause: () => void;
  resume: () => void;
}

function List({ numbers, open, setOpen, follow, live, pause, resume }: ListProps) {
  const place = useRef<HTMLDivElement>(null);
  const stuck = useRef(true);
  const opened = open === null ? -1 : numbers.indexOf(open);
  const virtual = useVirtualizer({
    count: numbers.length,
    getScrollElement: () => place.current,
    estimateSize: (index) => (index === opened ? ROW + DETAIL : ROW),
    overscan: 12,
    getItemKey: (index) => numbers[index]!,
  });
  useEffect(() => virtual.measure(), [opened, virtual]);
  useEffect(() => {
    if (live && stuck.current && numbers.length > 0) virtual.scrollToIndex(numbers.length - 1, { align: "end" });
  }, [numbers, live, virtual]);
  const scrolled = () => {
    const element = place.current!;
    const atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 2 * ROW;
    if (stuck.current && !atEnd && live && element.scrollTop < (last.current ?? 0)) {
      stuck.current = false;
      pause();
    } else if (atEnd) stuck.current = true;
    last.current = element.scrollTop;
  };
  const last = useRef<number>(0);
  return (
    <div className="list-frame">
      <div ref={place} className="log-list" onScroll={scrolled} tabIndex={0} aria-label="Log entries, the newest last">
        <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
          {virtual.getVirtualItems().map((item) => {
            const number = numbers[item.index]!;
            const entry = logs.byNumber(number);
            if (!entry) return null;
            return (
              <div key={item.key} style={{ position: "absolute", top: item.start, left: 0, right: 0 }}>
                <Row entry={entry} open={number === open} toggle={() => setOpen(number === open ? null : number)} />
                {number === open && <Detail entry={entry} follow={follow} />}
              </div>
            );
          })}
        </div>
      </div>
      {!live && (
        <button
          type="button"
          className="main jump"
          onClick={() => {
            stuck.current = true;
            resume();
          }}
        >
          Jump to the latest
        </button>
      )}
    </div>
  );
}

const Row = memo(function Row({ entry, open, toggle }: { entry: LogEntry; open: boolean; toggle: () => void }) {
  return (
    <button type="button" className={`log-row ${open ? "open" : ""}`} onClick={toggle} aria-expanded={open}>
      <span className="soft">{clock(entry.timestamp, true)}</span>
      <span className={`level-${word(entry.severity)}`}>{entry.level}</span>
      <span className="service soft">{entry.service}</span>
      <span>{entry.message}</span>
    </button>
  );
});

function word(severity: number): string {
  if (severity >= 17) return "error";
  return severity >= 13 ? "warn" : "info";
}

function Detail({ entry, follow }: { entry: LogEntry; follow: (changes: Record<string, string>) => void }) {
  const { metadata, ...fields } = entry;
  const [copied, setCopied] = useState("");
  const copy = async (what: string, text: string) => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(`${what} copied`);
    } catch {
      setCopied("the browser does not allow copying");
    }
  };
  const body = { service: entry.service, epoch: entry.epoch, batch: [{ seq: entry.seq, level: entry.level, message: entry.message, ts: entry.timestamp }] };
  return (
    <div className="log-detail" style={{ top: ROW, height: DETAIL }}>
      <div className="inline">
        <button type="button" onClick={() => copy("JSON", JSON.stringify(entry, null, 2))}>
          Copy as JSON
        </button>
        <button type="button" onClick={() => copy("curl", `curl -H 'content-type: application/json' -d ${quoted(JSON.stringify(body))} ${window.location.origin}/ingest`)}>
          Copy as curl
        </button>
        {typeof entry.trace_id === "string" && (
          <button type="button" onClick={() => follow({ trace_id: entry.trace_id as string })}>
            Follow this trace
          </button>
        )}
        {typeof entry.request_id === "string" && (
          <button type="button" onClick={() => follow({ request_id: entry.request_id as string })}>
            Follow this request
          </button>
        )}
        <span role="status" className="soft small">
          {copied}
        </span>
      </div>
      <dl className="fields">
        {Object.entries(fields).map(([name, value]) => (
          <FieldRow key={name} name={name} value={value} />
        ))}
      </dl>
      {metadata !== undefined && <JsonTree name="attrs" value={metadata} open />}
    </div>
  );
}

function FieldRow({ name, value }: { name: string; value: unknown }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{typeof value === "object" ? JSON.stringify(value) : String(value)}</dd>
    </>
  );
}

/** One word for a shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
