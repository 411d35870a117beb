/** A line chart over time (uPlot), in the theme's colours; redrawn when data, size or theme change. */

import { useEffect, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock } from "../format";
import { themeVersion } from "../theme";
import { useStore } from "../store";

export interface Line {
  label: string;
  values: (number | null)[];
  color: string; // a token, as --series-1
  dash?: number[];
}

export interface Marker {
  at: number; // Unix seconds
}

const HEIGHT = 190;

function token(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function Chart({ at, lines, fromS, toS, label, format, markers = [] }: { at: number[]; lines: Line[]; fromS: number; toS: number; label: string; format: (n: number) => string; markers?: Marker[] }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const marked = useRef(markers);
  marked.current = markers;
  const range = useRef<[number, number]>([fromS, toS]);
  range.current = [fromS, toS];
  const theme = useStore(themeVersion);
  const names = lines.map((line) => line.label).join("|");

  useEffect(() => {
    const element = place.current!;
    const axis = { stroke: token("--ink-soft"), grid: { stroke: token("--edge"), width: 1 }, ticks: { show: false }, font: `12px ${token("--font")}` };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        cursor: { y: false },
        legend: { live: true },
        scales: { x: { range: () => range.current }, y: { range: (_, __, max) => [0, Math.max(5, max * 1.1)] } },
        axes: [{ ...axis, space: 90, values: (_, ticks) => ticks.map((s) => clock(new Date(s * 1000).toISOString())) }, { ...axis, size: 56, values: (_, ticks) => ticks.map(format) }],
        series: [
          { label: "time", value: (_: uPlot, s: number | null) => (s === null ? "–" : clock(new Date(s * 1000).toISOString())) },
          ...lines.map((line) => ({
            label: line.label,
            stroke: token(line.color),
            width: 2,
            points: { show: false },
            ...(line.dash ? { dash: line.dash } : {}),
            value: (_: uPlot, v: number | null) => (v === null ? "–" : format(v)),
          })),
        ],
        hooks: {
          draw: [
            (u) => {
              const { ctx, bbox } = u;
              ctx.save();
              ctx.strokeStyle = token("--bad");
              ctx.setLineDash([4, 3]);
              for (const marker of marked.current) {
                const x = u.valToPos(marker.at, "x", true);
                if (x < bbox.left || x > bbox.left + bbox.width) continue;
                ctx.beginPath();
                ctx.moveTo(x, bbox.top);
                ctx.lineTo(x, bbox.top + bbox.height);
                ctx.stroke();
              }
              ctx.restore();
            },
          ],
        },
      },
      [[], ...lines.map(() => [])],
      element,
    );
    plot.current = made;
    const watch = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    watch.observe(element);
    return () => {
      watch.disconnect();
      made.destroy();
      plot.current = null;
    };
    // The lines' values come with the next effect; what a plot is made of are their names.
    // eslint-disable-next-line
  }, [names, theme, format]);

  useEffect(() => {
    plot.current?.setData([at, ...lines.map((line) => line.values)]);
  });

  return <div ref={place} role="img" aria-label={label} />;
}
