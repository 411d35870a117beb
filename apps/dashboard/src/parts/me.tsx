/** Whose page this is (GET /whoami), and what stands where they may not change anything. */

import { createContext, type ReactNode, useContext, useState } from "react";
import { useLocation } from "wouter";
import { type Asked, useAsked } from "../api";
import { Empty, When } from "./states";

export interface Me {
  loggedIn: boolean; // by cookie
  keyId: string | null;
  admin: boolean;
  allTenants: boolean;
  tenantId: string;
  appKey: string | null;
}

const LOOK_MS = 15_000;

export const Whose = createContext<Asked<Me>>({ value: undefined, error: undefined, again: () => undefined });

export function useWhoAmI(): Asked<Me> {
  return useAsked<Me>("/whoami", LOOK_MS);
}

/** What depends on who looks; until that is known, why it is not. */
export function Known({ children }: { children: (me: Me) => ReactNode }) {
  const asked = useContext(Whose);
  if (asked.value) return children(asked.value);
  return (
    <When asked={asked} what="what you may do">
      {children}
    </When>
  );
}

/** Ends the log-in, here and everywhere, and leads to the next one. */
export function LogOut() {
  const [failed, setFailed] = useState(false);
  const leave = async () => {
    try {
      const answer = await fetch("/logout", { method: "POST", headers: { "x-tracehub": "1" }, redirect: "manual" });
      if (answer.type === "opaqueredirect") return window.location.assign("/login");
    } catch {
      // The server is away, and the log-in stands.
    }
    setFailed(true);
  };
  return (
    <button type="button" className="quiet" onClick={leave}>
      {failed ? "Not logged out: try again" : "Log out"}
    </button>
  );
}

/** A plain sentence for those whose key does not reach so far. */
export function NeedsAdmin({ what }: { what: string }) {
  const [location] = useLocation();
  return (
    <Empty>
      <p>{what} needs an admin key.</p>
      {useContext(Whose).value?.loggedIn ? <p>The key of this log-in is none: log out, and in again with one.</p> : <a href={`/login?next=${encodeURIComponent(location)}`}>Log in with one</a>}
    </Empty>
  );
}
