/** What the same service logged just before and after one entry. */

import { useAsked } from "../api";
import { around, aroundPaths, type LogPage } from "../history";
import type { LogEntry } from "../types";
import { Line } from "./logrow";
import { When } from "./states";

const NEVER_MS = 2 ** 31 - 1;

export function Surrounding({ entry }: { entry: LogEntry }) {
  const [before, after] = aroundPaths(entry);
  const older = useAsked<LogPage>(before, NEVER_MS);
  const newer = useAsked<LogPage>(after, NEVER_MS);
  return (
    <When asked={older} what="the lines before">
      {(first) => (
        <When asked={newer} what="the lines after">
          {(last) => (
            <ol className="around">
              {around(first.data.entries, entry, last.data.entries).map((line) => (
                <li key={line.id} className="log-line" aria-current={line.id === entry.id ? "true" : undefined}>
                  <Line entry={line} />
                </li>
              ))}
            </ol>
          )}
        </When>
      )}
    </When>
  );
}
