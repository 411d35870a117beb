/** A value as a tree that opens; text is only ever text. */

const OPEN_MAX = 200; // children shown of one node

export function JsonTree({ name, value, open = false }: { name: string; value: unknown; open?: boolean }) {
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
    <details className="tree mono" open={open}>
      <summary>
        <span className="soft">{name}: </span>
        {brackets[0]}
        {entries.length}
        {brackets[1]}
      </summary>
      <div>
        {entries.slice(0, OPEN_MAX).map(([key, child]) => (
          <JsonTree key={key} name={key} value={child} />
        ))}
        {entries.length > OPEN_MAX && <span className="soft">{entries.length - OPEN_MAX} more</span>}
      </div>
    </details>
  );
}
