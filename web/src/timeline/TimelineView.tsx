import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Palette } from "../palette";
import { counted, duration } from "../units";
import { Chart, type TimelineState } from "./chart";
import { Details } from "./Details";
import { TOP } from "./drawtop";
import type { Timeline } from "./format";
import { Hover, type At } from "./Hover";
import { act, Motion, TIMELINE_KEYS } from "./keys";
import type { Head } from "./lanes";
import { bindRows, bindTop } from "./pointer";
import { spoken } from "./spanfacts";
import { Toolbar } from "./Toolbar";
import { Totals } from "./Totals";

export interface TimelineProps {
  timeline: Timeline;
  palette: Palette;
  /** What lies in the page's address; `onState` is told what changed, at most some times a second. */
  state: TimelineState;
  onState(changed: TimelineState): void;
  /** Name of what is downloaded. */
  title: string;
}

/** All tracks of a window: zoom, search, select. */
export function TimelineView({ timeline, palette, state, onState, title }: TimelineProps) {
  const [, render] = useState({});
  const [words, say] = useState("");
  const [selects, setSelects] = useState(false);
  const latest = useRef({ onState, selects });
  latest.current = { onState, selects };
  const chart = useMemo(
    () => new Chart(timeline, palette, (changed) => latest.current.onState(changed), () => render({})),
    [timeline],
  );
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => chart.paintWith(palette), [chart, palette]);
  useEffect(() => chart.receive(state), [chart, state]);
  useEffect(() => say(chart.span < 0 ? "" : spoken(timeline, chart.span)), [chart, chart.span]);
  const view = useRef<HTMLElement>(null);
  useKeys(view, chart, search, say);
  return (
    <section class="tl" aria-label="Timeline" ref={view}>
      <Toolbar {...{ chart, palette, search, selects, setSelects, title }} />
      <Canvases chart={chart} selects={() => latest.current.selects} />
      <div class="sr" aria-live="polite">
        {words}
      </div>
      <Details chart={chart} />
      <Totals chart={chart} />
    </section>
  );
}

type Found<Kind> = { current: Kind | null };

/** Keys of the whole view, also while nothing has the focus; not what is typed into a field or presses a button. */
function useKeys(view: Found<HTMLElement>, chart: Chart, search: Found<HTMLElement>, say: (words: string) => void) {
  useEffect(() => {
    const motion = new Motion(chart);
    const ending = new AbortController();
    const { signal } = ending;
    const down = (event: KeyboardEvent): void => {
      const target = event.target as HTMLElement;
      const isOurs = target === document.body || view.current?.contains(target);
      const isTaken = target.matches("input") || (event.key === "Enter" && target.matches("button, summary"));
      if (!isOurs || isTaken || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "/") search.current?.focus();
      else if (!motion.press(event.key) && !act(chart, event.key, say)) return;
      event.preventDefault();
    };
    document.addEventListener("keydown", down, { signal });
    document.addEventListener("keyup", (event) => motion.release(event.key), { signal });
    for (const loss of ["blur", "focusin"]) window.addEventListener(loss, () => motion.stop(), { signal });
    return () => {
      ending.abort();
      motion.stop();
    };
  }, [chart]);
}

const GUTTER = 210; // CSS pixels
const NARROW = 110;

function Canvases({ chart, selects }: { chart: Chart; selects(): boolean }) {
  const top = useRef<HTMLCanvasElement>(null);
  const rows = useRef<HTMLCanvasElement>(null);
  const scroller = useRef<HTMLDivElement>(null);
  const hover = useRef<(at: At) => void>(() => {});
  const listen = useMemo(() => (show: (at: At) => void) => void (hover.current = show), []);
  const gutter = innerWidth < 700 ? NARROW : GUTTER;
  useEffect(() => {
    const events = { onHover: (at: At) => hover.current(at), selects };
    const ends = [
      chart.attach({ top: top.current!, rows: rows.current!, scroller: scroller.current! }),
      bindRows(chart, rows.current!, events),
      bindTop(chart, top.current!),
    ];
    return () => ends.forEach((end) => end());
  }, [chart]);
  const scrolled = (): void => {
    hover.current(null); // something else is below the pointer now
    chart.draw();
  };
  return (
    <div class="tl-body" style={{ "--gutter": `${gutter}px` }}>
      <div class="tl-top">
        <Shown chart={chart} />
        <canvas ref={top} aria-hidden="true" />
      </div>
      <div class="tl-scroll" ref={scroller} onScroll={scrolled}>
        <div class="tl-content" style={{ height: `${chart.layout.height}px` }}>
          {!chart.layout.height && <p class="muted">Nothing was recorded.</p>}
          {chart.layout.heads.map((head) => (
            <HeadOf key={head.key} head={head} toggle={() => chart.toggle(head.key)} />
          ))}
          <canvas ref={rows} class="tl-rows" tabIndex={0} role="application" aria-label={INSTRUCTIONS} />
        </div>
      </div>
      <Hover chart={chart} listen={listen} left={gutter} top={TOP} />
    </div>
  );
}

const INSTRUCTIONS =
  "Timeline of all tracks. " +
  TIMELINE_KEYS.map(([keys, meaning]) => `${keys}: ${meaning}`).join(". ") +
  ". The table of totals below says the same in numbers.";

function Shown({ chart }: { chart: Chart }) {
  const { length, tracks, count: spans } = chart.timeline;
  return (
    <div class="tl-corner">
      <b>{duration(length)}</b>
      <small>
        {counted(spans, "span")}, {counted(tracks.length, "track")}
      </small>
    </div>
  );
}

function HeadOf({ head, toggle }: { head: Head; toggle(): void }) {
  const style = { top: `${head.y}px`, height: `${head.height}px` };
  const name = head.isSection ? "tl-head tl-section" : "tl-head";
  if (head.open === null) {
    return (
      <div class={name} style={style} title={head.hint}>
        <span>{head.title}</span>
      </div>
    );
  }
  return (
    <button class={name} style={style} title={head.hint} aria-expanded={head.open} onClick={toggle}>
      <span>{head.title}</span>
    </button>
  );
}
