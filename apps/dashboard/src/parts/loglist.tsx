/** A long list of log entries of which only what is in sight is drawn. */

import { useVirtualizer, type Virtualizer } from "@tanstack/react-virtual";
import { type ReactNode, type RefObject, useEffect } from "react";
import { useKeys } from "../keys";
import type { LogEntry } from "../types";
import { DETAIL, LogDetail, LogRow, type Put, ROW, Trace } from "./logrow";

export interface Rows<Key extends string | number> {
  count: number;
  keyAt: (index: number) => Key;
  entryAt: (index: number) => LogEntry | undefined;
}

export type List = Virtualizer<HTMLDivElement, Element>;

interface Props<Key extends string | number> {
  place: RefObject<HTMLDivElement | null>;
  rows: Rows<Key>;
  openAt: number; // index of the open row, or -1
  open: Key | null;
  setOpen: (next: Key | null) => void;
  put: Put;
  label: string;
  dated?: boolean; // rows of other days are expected: leave room for the day
  onScroll: (element: HTMLDivElement) => void;
  onHover?: (over: boolean) => void;
  drawn?: (list: List) => void;
  children?: ReactNode;
}

export function LogList<Key extends string | number>({ place, rows, openAt, open, setOpen, put, label, dated = false, onScroll, onHover, drawn, children }: Props<Key>) {
  const list = useVirtualizer({
    count: rows.count,
    getScrollElement: () => place.current,
    estimateSize: (index) => (index === openAt ? ROW + DETAIL : ROW),
    overscan: 12,
    getItemKey: rows.keyAt,
  });
  useKeys({ Escape: () => setOpen(null) });
  useEffect(() => list.measure(), [openAt, list]);
  useEffect(() => drawn?.(list));
  return (
    <div className="list-frame" onMouseEnter={() => onHover?.(true)} onMouseLeave={() => onHover?.(false)}>
      <div ref={place} className={dated ? "log-list dated" : "log-list"} onScroll={(event) => onScroll(event.currentTarget)} tabIndex={0} role="group" aria-label={label}>
        <div style={{ height: list.getTotalSize(), position: "relative" }}>
          {list.getVirtualItems().map((item) => {
            const key = rows.keyAt(item.index);
            const entry = rows.entryAt(item.index);
            if (!entry) return null;
            return (
              <div key={item.key} style={{ position: "absolute", top: item.start, left: 0, right: 0 }}>
                <LogRow entry={entry} open={key === open} toggle={() => setOpen(key === open ? null : key)} />
                {entry.trace_id !== undefined && <Trace id={entry.trace_id} />}
                {key === open && <LogDetail entry={entry} put={put} />}
              </div>
            );
          })}
        </div>
      </div>
      {children}
    </div>
  );
}
