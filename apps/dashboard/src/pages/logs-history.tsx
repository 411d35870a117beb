/** What was stored: how much over time, of what kind, and each entry, newest first. */

import { useMemo, useRef, useState } from "react";
import { useBars } from "../counts";
import { count } from "../format";
import { HISTORY_MAX, useHistory } from "../history";
import { logs, logsVersion } from "../live";
import { LogFilter } from "../logfilter";
import { Facets } from "../parts/facets";
import { Histogram } from "../parts/histogram";
import { Known } from "../parts/known";
import { LogList } from "../parts/loglist";
import { Empty, Loading } from "../parts/states";
import { BETWEEN, type Filter, filterOf, queryOf, SERVICES_MAX } from "../question";
import { useStore } from "../store";
import type { Props } from "./logs-parts";

const NEAR_PX = 600; // so near to the end the next page is fetched

export function History(props: Props) {
  const { question, services, view, filters } = props;
  const known = services !== undefined;
  const [fresh, setFresh] = useState(0);
  // The names and the time are those of the moment of asking: what was found must not move by itself.
  const asked = useMemo(() => {
    const now = Date.now();
    return { now, filter: filterOf(question, services ?? [], now) };
    // eslint-disable-next-line
  }, [question, known, fresh]);
  if (asked.filter === null || (question.service && !known))
    return (
      <>
        <div className="head">
          <h1>Logs</h1>
          {view}
        </div>
        {filters}
        {asked.filter === null ? (
          <Empty>
            <p>More than {SERVICES_MAX} services have “{question.service}” in their name: name one more exactly.</p>
          </Empty>
        ) : (
          <Loading what="the services" />
        )}
      </>
    );
  return <Found key={fresh} {...props} filter={asked.filter} now={asked.now} again={() => setFresh(fresh + 1)} />;
}

function Found({ question, services, put, view, filters, filter, now, again }: Props & { filter: Filter; now: number; again: () => void }) {
  const { entries, total, estimated, known, done, full, loading, error, more } = useHistory(queryOf(filter).toString());
  const bars = useBars(filter, now);
  const [open, setOpen] = useState<string | null>(null);
  const place = useRef<HTMLDivElement>(null);
  const scrolled = (element: HTMLDivElement) => {
    if (!error && element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX) more();
  };
  const zoom = (from: number, to: number) => put({ from: new Date(from).toISOString(), to: new Date(to).toISOString(), last: BETWEEN });
  return (
    <>
      <div className="head">
        <h1>Logs</h1>
        {view}
        <Again question={question} services={services} again={again} />
        <span className="soft small" role="status">
          {count(entries.length)}
          {!done && total !== null && ` of ${estimated ? "about " : ""}${count(total)}`} found{error ? "" : done ? ", all there are" : full ? `; no more than ${count(HISTORY_MAX)} are kept here: ask for a shorter time` : ", older ones follow as you scroll"}
        </span>
        <Known known={known} />
      </div>
      {filters}
      <Histogram counted={bars} zoom={zoom} />
      {error && (
        <div className="empty" role="alert">
          <span className="signal bad">Failed to load logs: {error.message}</span>
          <button type="button" onClick={more}>
            Retry
          </button>
        </div>
      )}
      <div className="found">
        <Facets filter={filter} now={now} question={question} put={put} />
        {entries.length > 0 && (
          <LogList
            place={place}
            rows={{ count: entries.length, keyAt: (index) => entries[index]!.id, entryAt: (index) => entries[index] }}
            open={open}
            openAt={open === null ? -1 : entries.findIndex((entry) => entry.id === open)}
            setOpen={setOpen}
            put={put}
            dated
            label="Stored log entries, the newest first"
            onScroll={scrolled}
          />
        )}
        {entries.length === 0 && !error && (loading || !done ? <Loading what="what was stored" /> : (
          <Empty>
            <p>No logs found: nothing that is stored is like this.</p>
          </Empty>
        ))}
      </div>
    </>
  );
}

/** Asks again, and says how many came since that would be found. */
function Again({ question, services, again }: Pick<Props, "question" | "services"> & { again: () => void }) {
  useStore(logsVersion);
  const since = useRef(logs.total);
  const kept = useRef(new LogFilter(logs));
  const fresh = question.to ? 0 : kept.current.matching({ ...question, whole: services?.includes(question.service) }, logs.total).filter((number) => number >= since.current).length;
  return (
    <button type="button" className={fresh > 0 ? "main" : ""} onClick={again}>
      Ask again{fresh > 0 && ` (${count(fresh)} new)`}
    </button>
  );
}
