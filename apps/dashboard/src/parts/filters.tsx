/** The bar that says which logs are wanted; all of it lives in the address. */

import type { ReactNode } from "react";
import { BETWEEN, EXACT, LAST, LEVELS, localTime, momentOf, type Question } from "../question";
import type { Put } from "./logrow";
import { Menu } from "./menu";

const NAMES_MAX = 500; // that are offered while one types

interface Props {
  question: Question;
  type: Put; // while somebody types: going back undoes all of it at once
  put: Put;
  search: () => void; // ask what is stored
  reset: () => void;
  services: readonly string[];
  timed: boolean; // times can be chosen
  children?: ReactNode;
}

export function Filters({ question, type, put, search, reset, services, timed, children }: Props) {
  const { service, levels, text, exact, last } = question;
  const toggled = (name: string) => LEVELS.map(([level]) => level).filter((level) => (level === name) !== levels.includes(level));
  const chosen = EXACT.filter(([name]) => exact[name]);
  const between = last === BETWEEN || (!last && Boolean(question.from || question.to));
  const isPlain = !service && !text && !last && !between && levels.length === 0 && chosen.length === 0;
  return (
    <div className="inline">
      <form
        className="inline"
        role="search"
        onSubmit={(event) => {
          event.preventDefault();
          search();
        }}
      >
        <input type="search" aria-label="Text" placeholder="Text in the message   /" value={text} onChange={(e) => type({ text: e.target.value })} size={24} maxLength={256} />
        <input type="search" aria-label="Service" placeholder="Service" value={service} onChange={(e) => type({ service: e.target.value })} size={14} list="live-services" />
        <Known names={services} />
        <div className="segmented" role="group" aria-label="Levels">
          {LEVELS.map(([name]) => (
            <button key={name} type="button" className={`level-${name}`} aria-pressed={levels.includes(name)} onClick={() => put({ level: toggled(name).join(","), severity: "" })}>
              {name}
            </button>
          ))}
        </div>
        {timed && (
          <select aria-label="Time" value={between ? BETWEEN : last} onChange={(e) => put({ last: e.target.value, ...(e.target.value === BETWEEN ? {} : { from: "", to: "" }) })}>
            {LAST.map(([name, shown]) => (
              <option key={name} value={name}>
                {shown}
              </option>
            ))}
          </select>
        )}
        {timed && between &&
          (["from", "to"] as const).map((name) => (
            <label key={name} className="soft small">
              {name} <input type="datetime-local" step="1" value={localTime(question[name])} onChange={(e) => type({ [name]: momentOf(e.target.value, name === "to") })} />
            </label>
          ))}
        <Menu title="More filters">
          {EXACT.map(([name, title]) => (
            <label key={name} className="small">
              {title}
              <input type="search" value={exact[name] ?? ""} onChange={(e) => type({ [name]: e.target.value })} maxLength={255} />
            </label>
          ))}
        </Menu>
        <button type="submit">Search</button>
      </form>
      {children}
      {!isPlain && (
        <button type="button" className="quiet" onClick={reset}>
          Reset
        </button>
      )}
      {chosen.map(([name, title]) => (
        <button type="button" key={name} onClick={() => put({ [name]: "" })} aria-label={`Without ${title} ${exact[name]}`}>
          {title} <bdi className="mono">{exact[name]!.slice(0, 24)}</bdi> ×
        </button>
      ))}
    </div>
  );
}

function Known({ names }: { names: readonly string[] }) {
  return (
    <datalist id="live-services">
      {names.slice(0, NAMES_MAX).map((name) => (
        <option key={name} value={name} />
      ))}
    </datalist>
  );
}
