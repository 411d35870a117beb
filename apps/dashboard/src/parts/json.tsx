/** A value as a tree that opens; text is only ever text, and what is closed is not drawn. */

import { useState } from "react";

const STEP = 100; // children drawn of one node at first, and more with each press

export function JsonTree({ name, value, open = false }: { name: string; value: unknown; open?: boolean }) {
  const [opened, setOpened] = useState(open);
  const [most, setMost] = useState(STEP);
  if (value === null || typeof value !== "object")
    return (
      <div className="mono">
        <span className="soft">{name}: </span>
        <bdi>{typeof value === "string" ? JSON.stringify(value) : String(value)}</bdi>
      </div>
    );
  const entries = Object.entries(value);
  const brackets = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  return (
    <details className="tree mono" open={opened} onToggle={(event) => setOpened(event.currentTarget.open)}>
      <summary>
        <span className="soft">{name}: </span>
        {brackets[0]}
        {entries.length}
        {brackets[1]}
      </summary>
      {opened && (
        <div>
          {entries.slice(0, most).map(([key, child]) => (
            <JsonTree key={key} name={key} value={child} />
          ))}
          {entries.length > most && (
            <button type="button" onClick={() => setMost(most + STEP)}>
              {entries.length - most} more
            </button>
          )}
        </div>
      )}
    </details>
  );
}
