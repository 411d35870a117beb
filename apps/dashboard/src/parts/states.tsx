/** What stands where content is not: loading, empty, and errors that say what to do. */

import { Component, type ReactNode } from "react";
import type { Asked } from "../api";

export function Loading({ what }: { what: string }) {
  return (
    <p className="empty" role="status">
      Loading {what} …
    </p>
  );
}

/** Rows that are still to come. */
export function Skeleton({ what }: { what: string }) {
  return (
    <div className="skeleton" role="status">
      <span className="visually-hidden">Loading {what} …</span>
      {Array.from({ length: 12 }, (_, row) => (
        <i key={row} />
      ))}
    </div>
  );
}

export function Empty({ children }: { children: ReactNode }) {
  return <div className="empty">{children}</div>;
}

export function Failure({ asked }: { asked: Asked<unknown> }) {
  if (!asked.error) return null;
  return (
    <div className="empty" role="alert">
      <span className="signal bad">{asked.error.message}</span>
      <button type="button" onClick={asked.again}>
        Try again
      </button>
    </div>
  );
}

/** The value once it is there; else why it is not. */
export function When<T>({ asked, what, children }: { asked: Asked<T>; what: string; children: (value: T) => ReactNode }) {
  if (asked.value === undefined) return asked.error ? <Failure asked={asked} /> : <Loading what={what} />;
  return (
    <>
      <Failure asked={asked} />
      {children(asked.value)}
    </>
  );
}

/** A page that fails says so, and leaves the frame around it as it is. */
export class Caught extends Component<{ children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    return (
      <div className="page">
        <h1>This page failed</h1>
        <Empty>
          <p>A mistake of the page, not of the server: what is stored is safe.</p>
          <button type="button" onClick={() => this.setState({ failed: false })}>
            Try again
          </button>
        </Empty>
      </div>
    );
  }
}
