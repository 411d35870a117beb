import { useEffect, useMemo, useState } from "react";
import { useSearchParams } from "wouter";
import { keep, kept } from "../kept";
import { moveRow, useKeys } from "../keys";
import { Filters } from "../parts/filters";
import { Segmented } from "../parts/panel";
import { SavedSearches } from "../parts/savedmenu";
import { readQuestion } from "../question";
import { useServices } from "../services";
import { useStore } from "../store";
import { relative, turnTimes } from "../times";
import { useTitle } from "../title";
import { History } from "./logs-history";
import { Live } from "./logs-live";

const VIEWS = [["", "Live"], ["history", "History"]] as const;
const KEPT = "tracehub:live:filters"; // what was asked here last, for when the page is opened without a question

export function LiveLogs() {
  useTitle("Logs");
  const [params, setParams] = useSearchParams();
  const history = params.get("view") === "history";
  const services = useServices();
  const question = useMemo(() => readQuestion(params), [params]);
  useKept(params, (last) => setParams(last, { replace: true }));
  // Typing changes the address in place; what is pressed can be undone by going back.
  const change = (changes: Record<string, string>, replace: boolean) =>
    setParams((before) => {
      const next = new URLSearchParams(before);
      for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
      return next;
    }, { replace });
  const put = (changes: Record<string, string>) => change(changes, false);
  const [asked, setAsked] = useState(0);
  const again = () => setAsked(asked + 1);
  const reset = () => setParams(history ? { view: "history" } : {});
  useKeys({
    "/": () => document.querySelector<HTMLInputElement>("[role=search] input")?.focus(),
    j: () => moveRow(1),
    k: () => moveRow(-1),
    ...(history ? { " ": () => put({ view: "" }) } : {}),
  });
  const isRelative = useStore(relative);
  const view = (
    <>
      <Segmented label="Which logs" value={history ? "history" : ""} options={VIEWS} onChange={(next) => put({ view: next })} />
      <button type="button" className="quiet" aria-pressed={isRelative} onClick={turnTimes}>
        Relative times
      </button>
    </>
  );
  const filters = (
    <Filters question={question} type={(changes) => change(changes, true)} put={put} search={history ? again : () => put({ view: "history" })} reset={reset} services={services ?? []} timed={history}>
      <SavedSearches search={params.toString()} />
    </Filters>
  );
  const props = { question, services, put, view, filters };
  return <div className="logs">{history ? <History {...props} asked={asked} again={again} size={params.get("size") ?? ""} /> : <Live {...props} />}</div>;
}

/** An address with a question wins; without one, the last question of this browser is asked again. */
function useKept(params: URLSearchParams, ask: (last: URLSearchParams) => void): void {
  const text = params.toString();
  useEffect(() => {
    const last = kept(KEPT);
    if (text === "" && last) ask(new URLSearchParams(last));
    // Only when the page is opened.
    // eslint-disable-next-line
  }, []);
  useEffect(() => void keep(KEPT, text), [text]);
}
