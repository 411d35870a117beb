/** A table in a frame that scrolls sideways. A column is its title, or [title] when it holds numbers. */

import type { ReactNode } from "react";

export type Column = string | [string];

export function Table({ columns, children }: { columns: Column[]; children: ReactNode }) {
  return (
    <div className="scroll" tabIndex={0} role="group" aria-label={`Table by ${String(columns[0]).toLowerCase()}`}>
      <table>
        <thead>
          <tr>
            {columns.map((column) => {
              const title = String(column);
              return (
                <th key={title} scope="col" className={Array.isArray(column) ? "n" : undefined}>
                  {title}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>{children}</tbody>
      </table>
    </div>
  );
}
