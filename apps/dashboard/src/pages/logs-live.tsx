/** Every entry as it is committed, newest last. */

import { useMemo, useRef, useState } from "react";
import { count, plural } from "../format";
import { useKeys } from "../keys";
import { clear, logs, logsVersion, paused, skippedSinceOpened, snapshot } from "../live";
import { LogFilter } from "../logfilter";
import { Connect } from "../parts/connect";
import { LiveStatistics } from "../parts/livestats";
import { type List, LogList } from "../parts/loglist";
import { ROW } from "../parts/logrow";
import { Empty } from "../parts/states";
import { useStore } from "../store";
import type { Props } from "./logs-parts";

export function Live({ question, services, put, view, filters }: Props) {
  const version = useStore(logsVersion);
  const pausedAt = useStore(paused);
  const setPausedAt = paused.set;
  const [open, setOpen] = useState<number | null>(null);
  const kept = useRef(new LogFilter(logs));
  const until = pausedAt ?? logs.total;
  // The filter remembers what it has looked at, so a tick costs only what is new.
  const now = useStore(snapshot);
  const whole = services?.includes(question.service) ?? false;
  const shown = useMemo(() => kept.current.matching({ ...question, whole }, until), [question, whole, until, version]);
  const waiting = pausedAt === null ? 0 : logs.total - pausedAt;
  const place = useRef<HTMLDivElement>(null);
  const stuck = useRef(true); // to the newest
  const lastTop = useRef(0);
  const lastShown = useRef<number[]>([]);
  const looking = useRef(false); // the mouse is over the list: what somebody reads does not move away
  const [side, setSide] = useState<"" | "statistics" | "connect">("");
  const live = pausedAt === null;
  const drawn = (list: List) => {
    if (lastShown.current === shown) return;
    lastShown.current = shown;
    if (live && stuck.current && !looking.current && open === null && shown.length > 0) list.scrollToIndex(shown.length - 1, { align: "end" });
  };
  const scrolled = (element: HTMLDivElement) => {
    const atEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 2 * ROW;
    if (stuck.current && !atEnd && live && element.scrollTop < lastTop.current) {
      stuck.current = false;
      setPausedAt(logs.total);
    } else if (atEnd) stuck.current = true;
    lastTop.current = element.scrollTop;
  };
  const resume = () => {
    stuck.current = true;
    setPausedAt(null);
  };
  const turn = () => (live ? setPausedAt(logs.total) : resume());
  const toggle = (which: typeof side) => setSide(side === which ? "" : which);
  useKeys({ " ": turn });
  return (
    <>
      <div className="head">
        <h1>Live logs</h1>
        {view}
        <button type="button" className={live ? "" : "main"} onClick={turn}>
          {live ? "Pause" : `Resume: ${count(waiting)} new ${waiting === 1 ? "entry" : "entries"} — click to load`}
        </button>
        <span className="soft small" role="status">
          {count(shown.length)} of {count(Math.max(0, until - logs.firstNumber))} shown
        </span>
        <Sampled />
        <div className="rest">
          {now && <span className="soft small">{plural(now.live.clients, "connection")}</span>}
          <button type="button" onClick={clear}>
            Clear
          </button>
          <button type="button" aria-expanded={side === "statistics"} onClick={() => toggle("statistics")}>
            Statistics
          </button>
          <button type="button" aria-expanded={side === "connect"} onClick={() => toggle("connect")}>
            Connect
          </button>
        </div>
      </div>
      {filters}
      {side === "statistics" && <LiveStatistics />}
      {side === "connect" && <Connect />}
      {shown.length === 0 ? (
        <Empty>
          <p>
            {pausedAt !== null && pausedAt <= logs.firstNumber
              ? "What was paused here was pushed out by newer entries; it is under History."
              : logs.length === 0
              ? "Nothing was stored since this page was opened. New entries appear here as they are committed; what was stored before is under History."
              : "Nothing of what came so far is like this. What was stored before this page was opened is under History."}
          </p>
        </Empty>
      ) : (
        <LogList
          place={place}
          rows={{ count: shown.length, keyAt: (index) => shown[index]!, entryAt: (index) => logs.byNumber(shown[index]!) }}
          open={open}
          openAt={open === null ? -1 : shown.indexOf(open)}
          setOpen={setOpen}
          put={put}
          label="Log entries, the newest last"
          onScroll={scrolled}
          onHover={(over) => (looking.current = over)}
          drawn={drawn}
        >
          {!live && (
            <button type="button" className="main jump" onClick={resume}>
              Jump to the latest
            </button>
          )}
        </LogList>
      )}
    </>
  );
}

function Sampled() {
  useStore(snapshot);
  const left = skippedSinceOpened();
  if (left === 0) return null;
  return (
    <span className="signal warn small">
      {count(left)} entries left out: too fast to show, but stored
    </span>
  );
}
