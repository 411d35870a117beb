/** What was stored: how much over time, of what kind, and each entry, newest first. */

import { useEffect, useMemo, useRef, useState } from "react";
import { useBars } from "../counts";
import { count } from "../format";
import { HISTORY_MAX, useHistory } from "../history";
import { logs, logsVersion } from "../live";
import { LogFilter } from "../logfilter";
import { Facets } from "../parts/facets";
import { Histogram } from "../parts/histogram";
import { Known } from "../parts/known";
import { LogList } from "../parts/loglist";
import { Empty, Loading, Skeleton } from "../parts/states";
import { BETWEEN, type Filter, filterOf, queryOf, SERVICES_MAX } from "../question";
import { type Store, store, useStore } from "../store";
import type { Props } from "./logs-parts";

const NEAR_PX = 600; // so near to the end the next page is fetched

const SIZES = ["25", "50", "100", "500"];

/** How often it was asked, and how many rows a page has ("": all there are, as one scrolls). */
interface Asking {
  asked: number;
  again: () => void;
  size: string;
}

export function History({ asked: times, ...props }: Props & Asking) {
  const { question, services, view, filters } = props;
  const known = services !== undefined;
  // The names and the time are those of the moment of asking: what was found must not move by itself.
  const asked = useMemo(() => {
    const now = Date.now();
    return { now, filter: filterOf(question, services ?? [], now) };
    // eslint-disable-next-line
  }, [question, known, times]);
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
  return <Found key={times} {...props} filter={asked.filter} now={asked.now} />;
}

function Found({ question, services, put, view, filters, filter, now, again, size }: Props & Omit<Asking, "asked"> & { filter: Filter; now: number }) {
  const found = useHistory(queryOf(filter).toString());
  const { entries, total, estimated, known, done, full, loading, error, more } = found;
  const rows = usePage(found, SIZES.includes(size) ? Number(size) : 0);
  const seen = useRef(store(""));
  const all = total === null ? "" : ` of ${estimated ? "about " : ""}${count(total)}`;
  const bars = useBars(filter, now);
  const [open, setOpen] = useState<string | null>(null);
  const place = useRef<HTMLDivElement>(null);
  const scrolled = (element: HTMLDivElement) => {
    if (!rows.size && !error && element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX) more();
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
          {!done && all} found{error ? "" : done ? ", all there are" : full ? `; no more than ${count(HISTORY_MAX)} are kept here: ask for a shorter time` : rows.size ? "" : ", older ones follow as you scroll"}
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
        {rows.shown.length > 0 && (
          <LogList
            key={rows.first}
            place={place}
            rows={{ count: rows.shown.length, keyAt: (index) => rows.shown[index]!.id, entryAt: (index) => rows.shown[index] }}
            open={open}
            openAt={open === null ? -1 : rows.shown.findIndex((entry) => entry.id === open)}
            drawn={({ range }) => range && seen.current.set(`${count(rows.first + range.startIndex + 1)}–${count(rows.first + range.endIndex + 1)}`)}
            setOpen={setOpen}
            put={put}
            dated
            label="Stored log entries, the newest first"
            onScroll={scrolled}
          />
        )}
        {rows.shown.length === 0 && !error && (loading || !done ? <Skeleton what="what was stored" /> : (
          <Empty>
            <p>No logs found: nothing that is stored is like this.</p>
          </Empty>
        ))}
      </div>
      {entries.length > 0 && (
        <div className="inline small soft">
          <Showing seen={seen.current} of={all} />
          <label>
            Rows a page{" "}
            <select value={rows.size || ""} onChange={(event) => put({ size: event.target.value })}>
              <option value="">all, as one scrolls</option>
              {SIZES.map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
          {rows.size > 0 && (
            <>
              <button type="button" disabled={rows.first === 0} onClick={() => rows.turn(-1)}>
                Previous
              </button>
              <button type="button" disabled={rows.isLast} onClick={() => rows.turn(1)}>
                Next
              </button>
            </>
          )}
        </div>
      )}
    </>
  );
}

function Showing({ seen, of }: { seen: Store<string>; of: string }) {
  const range = useStore(seen);
  return (
    <span>
      Showing {range}
      {of} results
    </span>
  );
}

/** The page of what was found that is shown; 0 rows a page: all of it. Another question begins at the first one. */
function usePage({ query, entries, done, full, loading, error, more }: ReturnType<typeof useHistory>, size: number) {
  const [turned, setTurned] = useState({ query, size, page: 0 });
  const page = turned.query === query && turned.size === size ? turned.page : 0;
  const first = page * size;
  const lacks = size > 0 && entries.length < first + size && !done && !full && !loading && !error;
  useEffect(() => {
    if (lacks) more();
  });
  return {
    size,
    first,
    shown: size ? entries.slice(first, first + size) : entries,
    isLast: (done || full) && entries.length <= first + size,
    turn: (by: number) => setTurned({ query, size, page: page + by }),
  };
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
