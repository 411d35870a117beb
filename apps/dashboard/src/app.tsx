/** The frame around every page: where one is, whether it is live, faults, theme. */

import { useCallback, useEffect, useRef, useState } from "react";
import { Link, Route, Switch, useLocation } from "wouter";
import { duration } from "./format";
import { connection, faults } from "./live";
import { AlertPage } from "./pages/alert";
import { AlertsPage } from "./pages/alerts";
import { KeysPage } from "./pages/keys";
import { LiveLogs } from "./pages/live-logs";
import { Overview } from "./pages/overview";
import { QueuePage } from "./pages/queue";
import { ReplayPage } from "./pages/replay";
import { RetentionPage } from "./pages/retention";
import { ServicePage, Services } from "./pages/services";
import { FaultsPanel, useFaultsEnabled } from "./parts/faults";
import { LogOut, useWhoAmI, Whose } from "./parts/me";
import { Caught, Empty } from "./parts/states";
import { useStore } from "./store";
import { theme, toggleTheme } from "./theme";
import { useNow } from "./now";

const PAGES = [
  ["/", "Overview"],
  ["/live-logs", "Live logs"],
  ["/services", "Services"],
  ["/replay", "Replay"],
  ["/queue", "Queue"],
  ["/alerts", "Alerts"],
  ["/retention", "Retention"],
  ["/keys", "Keys"],
] as const;

export function App() {
  const [location] = useLocation();
  const dark = useStore(theme) === "dark";
  const enabled = useFaultsEnabled();
  const whose = useWhoAmI();
  const [breaking, setBreaking] = useState(false);
  const faultsButton = useRef<HTMLButtonElement>(null);
  const closeFaults = useCallback(() => {
    setBreaking(false);
    faultsButton.current?.focus();
  }, []);
  const running = useStore(faults).filter((fault) => fault.active).length;
  return (
    <div className="shell">
      <a className="skip" href="#main">
        To the content
      </a>
      <header className="top">
        <Link className="brand" href="/">
          TraceHub
        </Link>
        <ConnectionSignal />
        <div className="rest">
          {enabled && (
            <button type="button" ref={faultsButton} aria-expanded={breaking} onClick={() => setBreaking(!breaking)}>
              Faults{running > 0 && ` (${running} on)`}
            </button>
          )}
          <button type="button" className="quiet" onClick={toggleTheme}>
            {dark ? "Light" : "Dark"}
          </button>
          {whose.value?.loggedIn && <LogOut />}
        </div>
      </header>
      <Nav />
      <main className="main-part" id="main" tabIndex={-1}>
        <Whose value={whose}>
        <Caught key={location}>
        <Switch>
          <Route path="/" component={Overview} />
          <Route path="/live-logs" component={LiveLogs} />
          <Route path="/services" component={Services} />
          <Route path="/services/:name" component={ServicePage} />
          <Route path="/replay" component={ReplayPage} />
          <Route path="/queue" component={QueuePage} />
          <Route path="/alerts" component={AlertsPage} />
          <Route path="/alerts/:id" component={AlertPage} />
          <Route path="/retention" component={RetentionPage} />
          <Route path="/keys" component={KeysPage} />
          <Route>
            <div className="page">
              <h1>Nothing is here</h1>
              <Empty>
                <p>This address names no page.</p>
                <Link href="/">To the overview</Link>
              </Empty>
            </div>
          </Route>
        </Switch>
        </Caught>
        </Whose>
      </main>
      {enabled && breaking && <FaultsPanel close={closeFaults} />}
    </div>
  );
}

function Nav() {
  const [location] = useLocation();
  const nav = useRef<HTMLElement>(null);
  // On a phone not all of it is in sight.
  useEffect(() => {
    nav.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [location]);
  return (
    <nav className="nav" aria-label="Pages" ref={nav}>
      {PAGES.map(([href, text]) => {
        const here = href === "/" ? location === "/" : location === href || location.startsWith(`${href}/`);
        return (
          <Link key={href} href={href} aria-current={here ? "page" : undefined}>
            {text}
          </Link>
        );
      })}
    </nav>
  );
}

function ConnectionSignal() {
  const { phase, since } = useStore(connection);
  const now = useNow(1_000);
  if (phase === "live") return <span className="signal good">live</span>;
  if (phase === "connecting") return <span className="signal idle">connecting …</span>;
  if (phase === "silent")
    return (
      <span className="signal bad" role="alert">
        no news from the server for {duration(Math.max(0, now - since) + 8_000)}; what you see is from before.
      </span>
    );
  return (
    <span className="signal bad" role="alert">
      disconnected for {duration(Math.max(0, now - since))}; what you see is from before. It connects again by itself.
    </span>
  );
}
