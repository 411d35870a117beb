import { useTitle } from "../title";
import { useMemo } from "react";
import { useSearchParams } from "wouter";
import { levelOf } from "../history";
import { snapshot } from "../live";
import { Segmented } from "../parts/panel";
import { useStore } from "../store";
import { History } from "./logs-history";
import { Live } from "./logs-live";

const LEVELS = [["", "Any level"], ["9", "info and up"], ["13", "warn and up"], ["17", "error and up"], ["21", "fatal and up"]] as const;
const VIEWS = [["", "Live"], ["history", "History"]] as const;

export function LiveLogs() {
  useTitle("Logs");
  const [params, setParams] = useSearchParams();
  const history = params.get("view") === "history";
  const question = useMemo(
    () => ({
      service: params.get("service") ?? "",
      severity: levelOf(params.get("severity")),
      text: params.get("text") ?? "",
      trace: params.get("trace_id") ?? "",
      request: params.get("request_id") ?? "",
      from: params.get("from") ?? "",
      to: params.get("to") ?? "",
    }),
    [params],
  );
  // Typing changes the address in place; what is pressed can be undone by going back.
  const change = (changes: Record<string, string>, replace: boolean) =>
    setParams((before) => {
      const next = new URLSearchParams(before);
      for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name);
      return next;
    }, { replace });
  const type = (changes: Record<string, string>) => change(changes, true);
  const put = (changes: Record<string, string>) => change(changes, false);
  const view = <Segmented label="Which logs" value={history ? "history" : ""} options={VIEWS} onChange={(next) => put({ view: next })} />;
  const filters = (
    <div className="inline" role="search">
      <input type="search" aria-label="Service" placeholder="Service" value={question.service} onChange={(e) => type({ service: e.target.value })} size={14} list="live-services" />
      <Known />
      <select aria-label="Level" value={String(question.severity || "")} onChange={(e) => type({ severity: e.target.value })}>
        {LEVELS.map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
      <input type="search" aria-label="Text" placeholder="Text in the message" value={question.text} onChange={(e) => type({ text: e.target.value })} size={24} maxLength={256} />
      {history &&
        (["from", "to"] as const).map((name) => (
          <label key={name} className="soft small">
            {name} <input type="datetime-local" step="1" value={question[name]} onChange={(e) => type({ [name]: e.target.value })} />
          </label>
        ))}
      {(["trace", "request"] as const).map(
        (kind) =>
          question[kind] && (
            <button type="button" key={kind} onClick={() => put({ [`${kind}_id`]: "" })} aria-label={`Stop following ${kind} ${question[kind]}`}>
              {kind} <bdi className="mono">{question[kind].slice(0, 12)}</bdi> ×
            </button>
          ),
      )}
    </div>
  );
  const props = { question, put, view, filters };
  return <div className="logs">{history ? <History {...props} /> : <Live {...props} />}</div>;
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
