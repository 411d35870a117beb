/**
 * The number line of a service: what of it is stored, in flight, missing, being replayed, lost. Zoom with the
 * wheel, + and -, move by dragging or the arrows. Small ranges are drawn last and never thinner than a pixel.
 */

import { type KeyboardEvent, type PointerEvent, useEffect, useMemo, useRef, useState } from "react";
import { useAsked } from "../api";
import { count, range } from "../format";
import { useStore } from "../store";
import { themeVersion } from "../theme";
import type { Range } from "../types";
import { When } from "./states";
import { type Kind, KINDS, numberAt, pan, placed, type View, zoom } from "./stripmath";

interface Line extends Record<Kind, Range[]> {
  service: string;
  epoch: number;
  epochs: number[];
  from: number;
  to: number;
  ackTill: number;
  highestSeen: number;
  coarse: Kind[]; // has more ranges than are drawn: theirs are widened
}

// Each kind has a colour, a height and a pattern, so that none is told by colour alone.
const LOOK: Record<Kind, { word: string; color: string; top: number; bottom: number; hatch?: boolean }> = {
  stored: { word: "stored", color: "--good", top: 0.35, bottom: 1 },
  expired: { word: "expired by retention", color: "--ink-faint", top: 0.7, bottom: 1 },
  inFlight: { word: "in flight", color: "--accent", top: 0.2, bottom: 1 },
  missing: { word: "missing", color: "--bad", top: 0, bottom: 1, hatch: true },
  replaying: { word: "asked for again", color: "--warn", top: 0, bottom: 1, hatch: true },
  lost: { word: "lost, signed off", color: "--lost", top: 0.5, bottom: 1, hatch: true },
};

export function SequenceStrip({ service, newest }: { service: string; newest: number }) {
  const [epoch, setEpoch] = useState(newest);
  const [view, setView] = useState<View | null>(null);
  const query = new URLSearchParams();
  query.set("epoch", String(epoch));
  if (view) {
    query.set("from", String(view.from));
    query.set("to", String(view.to));
  }
  const asked = useAsked<Line>(`/sequence/${encodeURIComponent(service)}?${query}`, 1_000);
  const kept = useRef<Line | undefined>(undefined);
  if (asked.value) kept.current = asked.value;
  const line = asked.value ?? (kept.current?.service === service && kept.current.epoch === epoch ? kept.current : undefined);
  const choose = (next: number) => {
    setView(null);
    setEpoch(next);
  };
  return (
    <When asked={{ ...asked, value: line }} what="the number line">
      {(shown) => (
        <>
          {shown.epochs.length > 1 && (
            <p className="inline">
              <label>
                Epoch{" "}
                <select value={epoch} onChange={(event) => choose(Number(event.target.value))}>
                  {shown.epochs.map((one) => (
                    <option key={one} value={one}>
                      {one === newest ? `${one} (newest)` : one}
                    </option>
                  ))}
                </select>
              </label>
            </p>
          )}
          <Drawn line={shown} view={view} setView={setView} />
        </>
      )}
    </When>
  );
}

function Drawn({ line, view, setView }: { line: Line; view: View | null; setView: (next: View | null) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [hover, setHover] = useState<number>();
  const drag = useRef<{ x: number; view: View } | null>(null);
  const theme = useStore(themeVersion);
  const most = Math.max(line.highestSeen, 1);
  const now: View = useMemo(() => view ?? { from: 1, to: most }, [view, most]);
  const [width, setWidth] = useState(0);

  useEffect(() => {
    const element = canvas.current!;
    const watch = new ResizeObserver(() => setWidth(element.clientWidth));
    watch.observe(element);
    return () => watch.disconnect();
  }, []);

  useEffect(() => {
    draw(canvas.current!, line, now);
  }, [line, now, width, theme]);

  // React's own wheel listener may not hold the page still.
  const wheel = useRef<(event: WheelEvent) => void>(() => undefined);
  wheel.current = (event) => {
    if (!event.ctrlKey && Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      setView(pan(now, event.deltaX / width, most));
    } else {
      setView(zoom(now, event.deltaY > 0 ? 1.25 : 0.8, event.offsetX / width, most));
    }
    event.preventDefault();
  };
  useEffect(() => {
    const element = canvas.current!;
    const listener = (event: WheelEvent) => wheel.current(event);
    element.addEventListener("wheel", listener, { passive: false });
    return () => element.removeEventListener("wheel", listener);
  }, []);

  const keys = (event: KeyboardEvent) => {
    const moves: Record<string, () => View | null> = {
      "+": () => zoom(now, 0.5, 0.5, most),
      "=": () => zoom(now, 0.5, 0.5, most),
      "-": () => zoom(now, 2, 0.5, most),
      ArrowLeft: () => pan(now, -0.2, most),
      ArrowRight: () => pan(now, 0.2, most),
      Home: () => null,
      "0": () => null,
    };
    const move = moves[event.key];
    if (!move) return;
    setView(move());
    event.preventDefault();
  };
  const down = (event: PointerEvent<HTMLCanvasElement>) => {
    drag.current = { x: event.clientX, view: now };
    event.currentTarget.setPointerCapture(event.pointerId);
  };
  const over = (event: PointerEvent<HTMLCanvasElement>) => {
    setHover(numberAt(event.nativeEvent.offsetX, now, width || 1));
    if (drag.current && Math.abs(event.clientX - drag.current.x) > 3)
      setView(pan(drag.current.view, (drag.current.x - event.clientX) / (width || 1), most));
  };
  const firstGap = line.missing[0] ?? line.replaying[0];
  const shown = KINDS.filter((kind) => kind !== "expired" || line.expired.length > 0);
  return (
    <div className="stack">
      <div className="inline">
        <button type="button" onClick={() => setView(zoom(now, 0.5, 0.5, most))} aria-label="Zoom in">
          +
        </button>
        <button type="button" onClick={() => setView(zoom(now, 2, 0.5, most))} aria-label="Zoom out">
          −
        </button>
        <button type="button" onClick={() => setView(null)} disabled={view === null}>
          Whole line
        </button>
        <button type="button" disabled={!firstGap} onClick={() => firstGap && setView(zoom({ from: firstGap[0], to: firstGap[1] }, 4, 0.5, most))}>
          First gap
        </button>
        <span className="soft small">
          {range([now.from, now.to])}
          {hover !== undefined && <> · at {count(hover)}: {kindAt(line, hover)}</>}
        </span>
      </div>
      <canvas
        ref={canvas}
        className="strip"
        tabIndex={0}
        role="img"
        aria-label={`Number line of ${line.service} from ${now.from} to ${now.to}: ${shown.map((kind) => `${line[kind].length} ranges ${LOOK[kind].word}`).join(", ")}. Plus and minus zoom, arrows move.`}
        onKeyDown={keys}
        onPointerDown={down}
        onPointerMove={over}
        onPointerUp={() => (drag.current = null)}
        onPointerLeave={() => setHover(undefined)}
      />
      <div className="legend">
        {shown.map((kind) => (
          <span key={kind} data-kind={kind} data-ranges={line[kind].length}>
            <Swatch kind={kind} />
            {LOOK[kind].word}
          </span>
        ))}
        {line.coarse.length > 0 && <span>Drawn coarsely, there are too many ranges: zoom in to tell them apart.</span>}
      </div>
      {(line.missing.length > 0 || line.replaying.length > 0) && (
        <p className="small">
          <span className="signal warn">Open:</span> {[...line.missing, ...line.replaying].slice(0, 12).map(range).join(", ")}
          {line.missing.length + line.replaying.length > 12 && " …"}
        </p>
      )}
    </div>
  );
}

function Swatch({ kind }: { kind: Kind }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const theme = useStore(themeVersion);
  useEffect(() => {
    const context = canvas.current!.getContext("2d")!;
    context.clearRect(0, 0, 12, 10);
    context.fillStyle = paint(context, kind);
    context.fillRect(0, 0, 12, 10);
  }, [kind, theme]);
  return <canvas ref={canvas} width={12} height={10} aria-hidden="true" className="swatch" />;
}

function kindAt(line: Line, number: number): string {
  const found = KINDS.findLast((kind) => line[kind].some(([first, last]) => first <= number && number <= last));
  if (found && line.coarse.length > 0) return "zoom in to see";
  return found ? LOOK[found].word : "never seen";
}

function paint(context: CanvasRenderingContext2D, kind: Kind): string | CanvasPattern {
  const style = getComputedStyle(document.documentElement);
  const look = LOOK[kind];
  const color = style.getPropertyValue(look.color).trim();
  if (!look.hatch) return color;
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const ink = tile.getContext("2d")!;
  ink.fillStyle = color;
  ink.fillRect(0, 0, 6, 6);
  ink.strokeStyle = style.getPropertyValue("--panel").trim();
  ink.lineWidth = 1;
  ink.beginPath();
  const [from, to] = kind === "lost" ? [0, 6] : [6, 0];
  ink.moveTo(0, from);
  ink.lineTo(6, to);
  if (kind === "missing") {
    ink.moveTo(0, 0);
    ink.lineTo(6, 6);
  }
  ink.stroke();
  return context.createPattern(tile, "repeat") ?? color;
}

function draw(canvas: HTMLCanvasElement, line: Line, view: View): void {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (width === 0) return;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d")!;
  context.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  context.fillStyle = style.getPropertyValue("--panel-high").trim();
  context.fillRect(0, 0, width, height);
  for (const kind of KINDS) {
    const look = LOOK[kind];
    context.fillStyle = paint(context, kind);
    for (const part of line[kind]) {
      const at = placed(part, view, width);
      if (at) context.fillRect(at[0], look.top * height, at[1], (look.bottom - look.top) * height);
    }
  }
  const mark = placed([line.ackTill + 1, line.ackTill + 1], view, width);
  if (mark && line.ackTill < line.highestSeen) {
    context.fillStyle = style.getPropertyValue("--ink").trim();
    context.fillRect(mark[0], 0, 1.5, height);
  }
}
