/** What was stored, newest first, page by page from the server. */

import { useMemo, useRef, useState } from "react";
import { count } from "../format";
import { HISTORY_MAX, queryOf, SERVICES_MAX, useHistory } from "../history";
import { snapshot } from "../live";
import { LogList } from "../parts/loglist";
import { Empty, Loading } from "../parts/states";
import { useStore } from "../store";
import type { Props } from "./logs-parts";

const NEAR_PX = 600; // so near to the end the next page is fetched

export function History({ question, put, view, filters }: Props) {
  const known = useStore(snapshot) !== null;
  const [fresh, setFresh] = useState(0);
  // The names are those of the moment of asking: a service that is new must not throw away what was found.
  const query = useMemo(() => queryOf(question, (snapshot.get()?.services ?? []).map((s) => s.service)), [question, known, fresh]);
  if (query === null || (question.service && !known))
    return (
      <>
        <div className="head">
          <h1>Logs</h1>
          {view}
        </div>
        {filters}
        {query === null ? (
          <Empty>
            <p>More than {SERVICES_MAX} services have “{question.service}” in their name: name one more exactly.</p>
          </Empty>
        ) : (
          <Loading what="the services" />
        )}
      </>
    );
  return <Found key={fresh} query={query} put={put} view={view} filters={filters} again={() => setFresh(fresh + 1)} />;
}

function Found({ query, put, view, filters, again }: Omit<Props, "question"> & { query: string; again: () => void }) {
  const { entries, done, full, loading, error, more } = useHistory(query);
  const [open, setOpen] = useState<string | null>(null);
  const place = useRef<HTMLDivElement>(null);
  const scrolled = (element: HTMLDivElement) => {
    if (!error && element.scrollHeight - element.scrollTop - element.clientHeight < NEAR_PX) more();
  };
  return (
    <>
      <div className="head">
        <h1>Logs</h1>
        {view}
        <button type="button" onClick={again}>
          Ask again
        </button>
        <span className="soft small" role="status">
          {count(entries.length)} found{error ? "" : done ? ", all there are" : full ? `; no more than ${count(HISTORY_MAX)} are kept here: ask for a shorter time` : ", older ones follow as you scroll"}
        </span>
      </div>
      {filters}
      {error && (
        <div className="empty" role="alert">
          <span className="signal bad">{error.message}</span>
          <button type="button" onClick={more}>
            Try again
          </button>
        </div>
      )}
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
          <p>Nothing that is stored is like this.</p>
        </Empty>
      ))}
    </>
  );
}
