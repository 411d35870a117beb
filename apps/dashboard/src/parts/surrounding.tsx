/** What the same service logged just before and after one entry. */

import { useAsked } from "../api";
import type { LogEntry } from "../types";
import { Line } from "./logrow";
import { When } from "./states";

const NEVER_MS = 2 ** 31 - 1;

interface Around {
  data: { before: LogEntry[]; after: LogEntry[] };
}

export function Surrounding({ entry }: { entry: LogEntry }) {
  const asked = useAsked<Around>(`/api/v1/logs/${entry.id}/around`, NEVER_MS);
  return (
    <When asked={asked} what="the lines around it">
      {({ data: { before, after } }) => (
        <ol className="around">
          {[...before, entry, ...after].map((line) => (
            <li key={line.id} className="log-line" aria-current={line.id === entry.id ? "true" : undefined}>
              <Line entry={line} />
            </li>
          ))}
        </ol>
      )}
    </When>
  );
}
