/** Saved searches: take one up again, keep this one, forget one. */

import type { FormEvent } from "react";
import { Link } from "wouter";
import { forget, save, saved } from "../saved";
import { useStore } from "../store";
import { Menu } from "./menu";

export function SavedSearches({ search }: { search: string }) {
  const known = useStore(saved);
  const keep = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    save(String(new FormData(event.currentTarget).get("name") ?? ""), search);
    event.currentTarget.reset();
  };
  return (
    <Menu title={`Saved searches${known.length > 0 ? ` (${known.length})` : ""}`}>
      {known.length === 0 && <p className="soft small">None yet. They are kept by this browser; an address can be given to anybody.</p>}
      <ul>
        {known.map((one) => (
          <li key={one.name} className="inline">
            <Link href={`/live-logs?${one.search}`} onClick={(event) => event.currentTarget.blur()}>
              {one.name}
            </Link>
            <button type="button" className="quiet" aria-label={`Forget ${one.name}`} onClick={() => forget(one.name)}>
              ×
            </button>
          </li>
        ))}
      </ul>
      <form className="inline" onSubmit={keep}>
        <input name="name" aria-label="Name of this search" placeholder="Name of this search" maxLength={80} required />
        <button type="submit">Save</button>
      </form>
    </Menu>
  );
}
