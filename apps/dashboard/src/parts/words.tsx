/** Names, tenants and texts to take along, as all pages of settings show them. */

import { useState } from "react";
import { DEFAULT_TENANT } from "../types";

/** A name that somebody chose: only ever text, and never wider than its place. */
export function Name({ text }: { text: string }) {
  return <bdi className="long">{text}</bdi>;
}

export function Tenant({ id }: { id: string | null }) {
  if (id === null) return <span className="soft">any</span>;
  return id === DEFAULT_TENANT ? <span className="soft">the default one</span> : <span className="mono small">{id}</span>;
}

export function Copy({ text, what, title = "Copy" }: { text: string | (() => string); what: string; title?: string }) {
  const [said, setSaid] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(typeof text === "string" ? text : text());
      setSaid(`${what} copied`);
    } catch {
      setSaid("the browser does not allow copying");
    }
  };
  return (
    <>
      <button type="button" onClick={copy}>
        {title}
      </button>
      <span role="status" className="soft small">
        {said}
      </span>
    </>
  );
}
