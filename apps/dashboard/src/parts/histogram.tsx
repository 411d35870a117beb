/** Entries over time, by how bad they are. A stretch that is drawn across, or a bar that is pressed, is looked at closer. */

import { type PointerEvent, useState } from "react";
import type { Bar, Counted } from "../counts";
import { count, when } from "../format";

const HEIGHT = 64;
const KINDS = ["calm", "warn", "error"] as const;

export function Histogram({ counted: { value: bars, error }, zoom }: { counted: Counted<Bar[]>; zoom: (from: number, to: number) => void }) {
  const [drag, setDrag] = useState<[number, number] | null>(null);
  const [over, setOver] = useState<number | null>(null);
  if (error) return <p className="soft small histogram-said">No bars: {error.message}</p>;
  if (!bars || bars.length === 0) return null;
  const most = Math.max(...bars.map((bar) => bar.calm + bar.warn + bar.error));
  const at = (event: PointerEvent<SVGSVGElement>) => {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    return Math.min(bars.length - 1, Math.max(0, Math.floor(((event.clientX - left) / width) * bars.length)));
  };
  const [low, high] = drag ? [Math.min(...drag), Math.max(...drag)] : [-1, -1];
  const shown = over === null ? null : bars[over];
  return (
    <figure className="histogram">
      <svg
        viewBox={`0 0 ${bars.length} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`Entries over time: ${count(bars.reduce((sum, bar) => sum + bar.calm + bar.warn + bar.error, 0))} from ${said(bars[0]!.from)} to ${said(bars.at(-1)!.to)}`}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          setDrag([at(event), at(event)]);
        }}
        onPointerMove={(event) => {
          setOver(at(event));
          if (drag) setDrag([drag[0], at(event)]);
        }}
        onPointerLeave={() => setOver(null)}
        onPointerUp={() => {
          if (drag) zoom(bars[low]!.from, bars[high]!.to - 1);
          setDrag(null);
        }}
        onPointerCancel={() => setDrag(null)}
      >
        {drag && <rect className="drag" x={low} y={0} width={high - low + 1} height={HEIGHT} />}
        {bars.map((bar, n) => {
          let top = HEIGHT;
          return KINDS.map((kind) => {
            // What is there is seen, however little it is beside the most.
            const height = bar[kind] === 0 ? 0 : Math.max(1.5, (bar[kind] / most) * (HEIGHT - 4));
            top -= height;
            return height > 0 && <rect key={`${n}${kind}`} className={kind} x={n + 0.08} y={top} width={0.84} height={height} />;
          });
        })}
      </svg>
      <figcaption className="soft small">
        <span>{said(bars[0]!.from)}</span>
        <span>{shown && `${said(shown.from)}: ${count(shown.calm + shown.warn + shown.error)} (${count(shown.warn)} warnings, ${count(shown.error)} errors)`}</span>
        <span>{said(bars.at(-1)!.to)}</span>
      </figcaption>
    </figure>
  );
}

function said(ms: number): string {
  return when(new Date(ms).toISOString());
}
