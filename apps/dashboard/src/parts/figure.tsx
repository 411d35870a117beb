import type { ReactNode } from "react";

/** One number of a row of figures: its name, itself, and what it means. */
export function Figure({ name, value, more }: { name: string; value: string; more?: ReactNode }) {
  return (
    <div className="figure">
      <dt>{name}</dt>
      <dd>
        {value}
        {more && <small>{more}</small>}
      </dd>
    </div>
  );
}
