/** The most frequent values of what was found; one that is pressed becomes part of the question. */

import { useState } from "react";
import { type Counted, type Facet, useFacets, useStats } from "../counts";
import { count } from "../format";
import { type ExactField, type Filter, OF_WORD, type Question } from "../question";
import type { Put } from "./logrow";

const MORE: readonly (readonly [ExactField, string])[] = [["environment", "Environment"], ["host", "Host"], ["app_id", "App ID"], ["category", "Category"], ["door", "Door"]];

export function Facets({ filter, now, question, put }: { filter: Filter; now: number; question: Question; put: Put }) {
  const stats = useStats(filter, now);
  // Where there is little room, the logs come first.
  const [roomy] = useState(() => window.matchMedia("(min-width: 721px)").matches);
  const part = (of: "levels" | "services"): Counted<Facet[]> => ({ value: stats.value?.[of], error: stats.error });
  return (
    <aside className="facets" aria-label="Facets">
      <Group title="Level" found={part("levels")} open={roomy} pick={(word) => put({ level: OF_WORD[word] ?? "", severity: "" })} />
      <Group title="Service" found={part("services")} open={roomy} pick={(name) => put({ service: name })} />
      {MORE.map(([name, title]) => question.exact[name] === undefined && <Asked key={name} {...{ name, title, filter, now, put }} />)}
    </aside>
  );
}

function Asked({ name, title, filter, now, put }: { name: ExactField; title: string; filter: Filter; now: number; put: Put }) {
  const [open, setOpen] = useState(false);
  const found = useFacets(filter, now, name, open);
  return <Group title={title} found={found} opened={setOpen} pick={(value) => put({ [name]: value })} />;
}

function Group({ title, found, open = false, opened, pick }: { title: string; found: Counted<Facet[]>; open?: boolean; opened?: (open: boolean) => void; pick: (value: string) => void }) {
  return (
    <details open={open} onToggle={(event) => opened?.(event.currentTarget.open)}>
      <summary>{title}</summary>
      {found.error && <p className="soft small">{found.error.message}</p>}
      {found.value?.length === 0 && <p className="soft small">none</p>}
      <ul>
        {found.value?.map(({ value, count: many }) => (
          <li key={value}>
            <button type="button" className="quiet" onClick={() => pick(value)}>
              <bdi>{value}</bdi> <span className="soft">{count(many)}</span>
            </button>
          </li>
        ))}
      </ul>
    </details>
  );
}
