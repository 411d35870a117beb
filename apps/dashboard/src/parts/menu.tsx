/** Something behind a button that goes away when one does something else. */

import type { ReactNode } from "react";

export function Menu({ title, children }: { title: string; children: ReactNode }) {
  return (
    <details
      className="menu"
      onBlur={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget)) event.currentTarget.open = false;
      }}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !event.currentTarget.open) return;
        event.currentTarget.open = false;
        event.currentTarget.querySelector("summary")?.focus();
        event.stopPropagation();
      }}
    >
      <summary>{title}</summary>
      <div className="stack" tabIndex={-1}>
        {children}
      </div>
    </details>
  );
}
