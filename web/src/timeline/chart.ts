import type { Palette, Tone } from "../palette";
import { drawAreas, drawMarks, boxOf } from "./drawmarks";
import { RowPainter } from "./drawrows";
import { drawTop, overviewOf, TOP } from "./drawtop";
import type { Timeline } from "./format";
import { closedAtFirst, laneAt, layoutOf, trackKey, type Lane, type Layout } from "./lanes";
import { blend, blocksOf, cellsOf, cover } from "./raster";
import { surfaceOf, timeAt, type Scene, type Surface } from "./scene";
import { labelSums, maskOf, hitsOf, nextHit, patternOf, complaint, type LabelSums } from "./search";
import { childrenOf, endOf, linksOf, parentOf, rowOf } from "./spans";
import { coloursOf, pixelOf, type Colours } from "./tone";
import { clamped, fitting, panned, zoomed, type Window } from "./window";

/** What of the timeline's state lies in the page's address. Times are nanoseconds since the trace's beginning. */
export interface TimelineState {
  start?: number | undefined;
  end?: number | undefined;
  span?: number | undefined;
  search?: string | undefined;
  range?: [start: number, end: number] | undefined;
}

const REPORT_AFTER = 250; // milliseconds
const FRAME = "profkit.timeline.frame";
const FRAMES_KEPT = 600; // measures in the browser's list
const DIMMED = 0.14; // of a colour, where something else is looked for

export interface Elements {
  top: HTMLCanvasElement;
  rows: HTMLCanvasElement;
  scroller: HTMLElement;
}

/** The timeline's state, and its drawing on two canvases. What changes it asks for a frame. */
export class Chart {
  window: Window;
  span = -1;
  range: [start: number, end: number] | null = null;
  search = "";
  closed: Set<string>;
  hidden: ReadonlySet<Tone> = new Set();
  layout: Layout;
  mask: Uint8Array | null = null;
  hits: { calls: number; time: number } | null = null;
  width = 1; // CSS pixels, as the height of what is seen of the tracks
  height = 1;
  /** Of the selected span. */
  links: Scene["links"] = [];
  #palette: Palette;
  #blocks;
  #colours: Colours;
  #pixels: Uint32Array;
  #sums: LabelSums | null = null;
  #overview: ImageData | null = null;
  #elements: Elements | null = null;
  #surfaces: { top: Surface; rows: Surface } | null = null;
  readonly #painter = new RowPainter();
  #frame = 0;
  #frames = 0;
  #reporting: ReturnType<typeof setTimeout> | undefined;
  #reported: TimelineState = {};

  /** Told of what lies in the page's address. */
  readonly #onState: (changed: TimelineState) => void;
  /** Told when anything but the window changed. */
  readonly #onChange: () => void;

  constructor(
    readonly timeline: Timeline,
    palette: Palette,
    onState: (changed: TimelineState) => void,
    onChange: () => void,
  ) {
    this.#palette = palette;
    this.#onState = onState;
    this.#onChange = onChange;
    this.window = { start: 0, end: Math.max(timeline.length, 1) };
    this.closed = closedAtFirst(timeline);
    this.layout = layoutOf(timeline, this.closed);
    this.#blocks = blocksOf(timeline, null);
    this.#colours = coloursOf(timeline, palette);
    this.#pixels = this.#colours.pixel;
  }

  /** Draw on these until the returned function is called. */
  attach(elements: Elements): () => void {
    this.#elements = elements;
    const observer = new ResizeObserver(() => this.#resize());
    observer.observe(elements.scroller);
    this.#resize();
    return () => {
      observer.disconnect();
      cancelAnimationFrame(this.#frame);
      this.#frame = 0;
      this.#flush();
      this.#elements = this.#surfaces = null;
    };
  }

  #resize(): void {
    const { top, rows, scroller } = this.#elements!;
    const gutter = rows.offsetLeft;
    this.width = Math.max(1, scroller.clientWidth - gutter);
    this.height = Math.max(1, scroller.clientHeight);
    this.#surfaces = { top: surfaceOf(top, this.width, TOP), rows: surfaceOf(rows, this.width, this.height) };
    this.#overview = null;
    this.draw();
  }

  paintWith(palette: Palette): void {
    if (palette === this.#palette) return;
    this.#palette = palette;
    this.#colours = coloursOf(this.timeline, palette);
    this.#filter();
  }

  /** Take over what changed in the page's address; what came from here is known already. */
  receive(state: TimelineState): void {
    const isNew = (key: keyof TimelineState): boolean => String(state[key]) !== String(this.#reported[key]);
    const { length } = this.timeline;
    if (isNew("start") || isNew("end")) {
      this.window = clamped({ start: state.start ?? 0, end: state.end ?? length }, length);
    }
    if (isNew("search")) this.look(state.search ?? "");
    if (isNew("range")) this.range = state.range ?? null;
    if (isNew("span")) this.reveal(state.span ?? -1);
    this.#reported = { ...state };
    this.#changed();
  }

  /** Draw in the next frame, and report the state some time later. */
  draw(): void {
    if (!this.#surfaces) return;
    this.#frame ||= requestAnimationFrame(() => this.#drawNow());
    this.#reporting ??= setTimeout(() => this.#flush(), REPORT_AFTER);
  }

  #changed(): void {
    this.draw();
    this.#onChange();
  }

  #flush(): void {
    clearTimeout(this.#reporting);
    this.#reporting = undefined;
    const isWhole = this.window.start <= 0 && this.window.end >= this.timeline.length;
    const now: TimelineState = {
      start: isWhole ? undefined : Math.round(this.window.start),
      end: isWhole ? undefined : Math.round(this.window.end),
      span: this.span < 0 ? undefined : this.span,
      search: this.search || undefined,
      range: this.range ? [Math.round(this.range[0]), Math.round(this.range[1])] : undefined,
    };
    const keys = Object.keys(now) as (keyof TimelineState)[];
    const changes = keys.filter((key) => String(now[key]) !== String(this.#reported[key]));
    this.#reported = now;
    if (changes.length) this.#onState(Object.fromEntries(changes.map((key) => [key, now[key]])));
  }

  scene(): Scene {
    const { timeline, layout, mask, window, span, links, range } = this;
    const scroll = this.#elements?.scroller.scrollTop ?? 0;
    const [palette, blocks, colours] = [this.#palette, this.#blocks, this.#pixels];
    return { timeline, palette, layout, blocks, colours, mask, window, scroll, span, links, range };
  }

  #drawNow(): void {
    this.#frame = 0;
    const begun = performance.now();
    const { top, rows } = this.#surfaces!;
    const scene = this.scene();
    this.#overview ??= overviewOf(scene, top);
    drawTop(scene, top, this.#overview);
    this.#painter.draw(scene, rows);
    drawAreas(scene, rows);
    drawMarks(scene, rows);
    if (++this.#frames % FRAMES_KEPT === 0) performance.clearMeasures(FRAME);
    performance.measure(FRAME, { start: begun });
  }

  show(window: Window): void {
    this.window = window;
    this.draw();
  }

  zoom(factor: number, x = this.width / 2): void {
    this.show(zoomed(this.window, factor, x / this.width, this.timeline.length));
  }

  /** Move by a share of the width. */
  pan(share: number): void {
    this.show(panned(this.window, share, this.timeline.length));
  }

  scrollBy(pixels: number): void {
    this.#elements!.scroller.scrollTop += pixels;
  }

  fitAll(): void {
    this.show({ start: 0, end: Math.max(this.timeline.length, 1) });
  }

  fitSpan(span: number): void {
    if (span >= 0) this.show(fitting(this.timeline.start[span], endOf(this.timeline, span), this.timeline.length));
  }

  /** Show the whole of the next step (1), or of the one before (-1). Returns its number. */
  toStep(direction: 1 | -1): number | null {
    const { steps, length } = this.timeline;
    const middle = (this.window.start + this.window.end) / 2;
    const now = steps.filter((step) => step.start <= middle).length - 1;
    const step = steps[Math.min(Math.max(now + direction, 0), steps.length - 1)];
    if (!step) return null;
    this.show(fitting(step.start, step.start + step.duration, length));
    return step.number;
  }

  /** Select without moving anything. */
  choose(span: number): void {
    this.span = Number.isInteger(span) && span >= 0 && span < this.timeline.count ? span : -1;
    this.links = this.span < 0 ? [] : linksOf(this.timeline, this.span);
    this.#changed();
  }

  /** Select, open the span's track, and move it into view. */
  reveal(span: number): void {
    this.choose(span);
    if (this.span < 0) return; // none, or a link to another timeline
    this.#open(this.timeline.rows[rowOf(this.timeline, span)].track);
    const { start, end } = this.window;
    const [from, to] = [this.timeline.start[span], endOf(this.timeline, span)];
    if (to < start || from > end) {
      const middle = to - from < end - start ? (from + to) / 2 : from;
      this.show(clamped({ start: middle - (end - start) / 2, end: middle + (end - start) / 2 }, this.timeline.length));
    }
    this.#scrollTo(span);
  }

  #open(track: number): void {
    const section = this.layout.lanes.find((lane) => lane.kind === "rows" && lane.track === track);
    if (this.closed.delete(trackKey(track)) || !section) {
      if (!section) for (const key of [...this.closed]) if (!key.startsWith("track")) this.closed.delete(key);
      this.#lay();
    }
  }

  #scrollTo(span: number): void {
    const { scroller } = this.#elements ?? {};
    const box = boxOf(this.scene(), this.width, span);
    if (!scroller || !box) return;
    if (box.top < 0) scroller.scrollTop += box.top - 30;
    if (box.bottom > scroller.clientHeight) scroller.scrollTop += box.bottom - scroller.clientHeight + 30;
  }

  toggle(key: string): void {
    if (!this.closed.delete(key)) this.closed.add(key);
    this.#lay();
  }

  #lay(): void {
    this.layout = layoutOf(this.timeline, this.closed);
    this.#overview = null;
    this.#changed();
  }

  mark(range: [start: number, end: number] | null): void {
    this.range = range && [Math.max(0, Math.min(...range)), Math.min(this.timeline.length, Math.max(...range))];
    this.#changed();
  }

  markSpan(): void {
    if (this.span >= 0) this.mark([this.timeline.start[this.span], endOf(this.timeline, this.span)]);
  }

  /** Look for a pattern; one that is none is kept and finds nothing new. */
  look(search: string): void {
    this.search = search;
    if (complaint(search) === null) this.#filter();
    this.#changed();
  }

  hide(hidden: ReadonlySet<Tone>): void {
    this.hidden = hidden;
    this.#filter();
  }

  #filter(): void {
    const t = this.timeline;
    const pattern = complaint(this.search) === null ? patternOf(this.search) : null;
    this.mask = maskOf(t, pattern, this.hidden);
    this.#blocks = blocksOf(t, this.mask);
    this.hits = null;
    if (pattern && this.mask) this.hits = hitsOf((this.#sums ??= labelSums(t)), this.mask);
    const behind = pixelOf(this.#palette.card);
    const { mask } = this;
    this.#pixels = mask
      ? this.#colours.pixel.map((colour, label) => (mask[label] ? colour : blend(behind, colour, DIMMED)))
      : this.#colours.pixel;
    this.#overview = null;
    this.#changed();
  }

  /** Reveal the next hit (1), or the one before (-1), of those that begin after the selected span or the left edge. */
  toHit(direction: 1 | -1): void {
    if (!this.mask || !this.hits) return;
    const { start, end } = this.window;
    const hit = nextHit(this.timeline, this.mask, this.span, direction > 0 ? start - 1 : end, direction);
    const wrapped = direction > 0 ? -1 : Infinity;
    this.reveal(hit >= 0 ? hit : nextHit(this.timeline, this.mask, -1, wrapped, direction));
  }

  clear(): void {
    this.range = null;
    this.choose(-1);
  }

  /** Select what lies beside, around or inside the selected span. */
  step(key: string): void {
    const t = this.timeline;
    if (this.span < 0) return this.reveal(this.#firstShown());
    const row = t.rows[rowOf(t, this.span)];
    const [from, to] = childrenOf(t, this.span);
    const next = {
      ArrowLeft: Math.max(this.span - 1, row.first),
      ArrowRight: Math.min(this.span + 1, row.first + row.count - 1),
      ArrowUp: parentOf(t, this.span),
      ArrowDown: from < to ? from : -1,
    }[key];
    if (next !== undefined && next >= 0) this.reveal(next);
  }

  #firstShown(): number {
    const { scroll } = this.scene();
    for (const lane of this.layout.lanes) {
      if (lane.kind !== "rows" || lane.y < scroll) continue;
      const span = this.#spanIn(lane, 0, this.width);
      if (span >= 0) return span;
    }
    return -1;
  }

  laneAt(y: number): Lane | undefined {
    return this.layout.lanes[laneAt(this.layout, y + this.scene().scroll)];
  }

  /** The span that is drawn at a place of the canvas, or -1. */
  spanAt(x: number, y: number): number {
    const lane = this.laneAt(y);
    if (lane?.kind !== "rows") return -1;
    const exact = this.#spanIn(lane, x - 0.5, x + 0.5);
    return exact >= 0 ? exact : this.#spanIn(lane, x - 3, x + 3); // tiny spans are hard to hit
  }

  #spanIn(lane: Lane & { kind: "rows" }, from: number, to: number): number {
    const cells = cellsOf(1);
    for (const row of [...lane.rows].reverse()) {
      cover(this.timeline, this.#blocks, this.timeline.rows[row], this.timeAt(from), this.timeAt(to), cells);
      if (cells.span[0] >= 0) return cells.span[0];
    }
    return -1;
  }

  timeAt(x: number): number {
    return timeAt(x, this.window, this.width);
  }

  /** The time at a place of the overview. */
  timeInOverview(x: number): number {
    return timeAt(x, { start: 0, end: Math.max(this.timeline.length, 1) }, this.width);
  }

  /** Move the window so that its middle is at `time`. */
  centre(time: number): void {
    const half = (this.window.end - this.window.start) / 2;
    this.show(clamped({ start: time - half, end: time + half }, this.timeline.length));
  }
}
