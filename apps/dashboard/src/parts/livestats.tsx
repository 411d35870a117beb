/** What came since this page was opened or cleared. */

import { count, rate } from "../format";
import { logsVersion, session, skippedSinceOpened, snapshot } from "../live";
import { LEVELS } from "../question";
import { useStore } from "../store";
import { Figure } from "./figure";
import { Panel } from "./panel";

const TOP = 5;

export function LiveStatistics() {
  useStore(logsVersion);
  const now = useStore(snapshot);
  const top = session.top(TOP);
  return (
    <Panel title="Live statistics" className="live-stats">
      <dl className="figures">
        <Figure name="Total session entries" value={count(session.total)} />
        <Figure name="Left out" value={count(skippedSinceOpened())} more="too fast to show, but stored" />
        <Figure name="Entries per second" value={now ? rate(now.epsStored) : "–"} more="stored, of all" />
      </dl>
      <div className="row">
        <Bars title="By level" rows={LEVELS.map(([name]) => [name, session.ofLevel(name)])} />
        <Bars title="Most active services" rows={top} />
      </div>
    </Panel>
  );
}

function Bars({ title, rows }: { title: string; rows: [string, number][] }) {
  const most = Math.max(1, ...rows.map(([, n]) => n));
  return (
    <ul className="bars" aria-label={title}>
      {rows.map(([name, n]) => (
        <li key={name}>
          <bdi>{name}</bdi>
          <meter min={0} max={most} value={n} aria-hidden="true" />
          <span className="soft">{count(n)}</span>
        </li>
      ))}
    </ul>
  );
}
