import type { RankRow } from "../data/types";
import { CLASSES } from "../given";
import type { Palette, Tone } from "../palette";
import type { Line } from "./order";

/** The lines of all ranks as one drawing: what a step consists of, who waits, who is late, every recorded step. */

export const HEAD = 40; // CSS pixels, as all lengths here
export const LEFT = 76;
const GAP = 22; // between panes
const TALLEST = 26; // of a line
const SEEN = 4; // of a line that is marked, at least
const HEIGHT = 560; // of all lines, where they are many
const SPACED = 8; // from which height, or width of a cell, on there is a gap between them
const LABELS = 15; // between the numbers of ranks

export const MOST_LINES = HEIGHT;

/** One column of the drawing: bars on a scale of its own, from 0 to the largest. */
interface Pane {
  title: string;
  share: number; // of the width
  bars(row: RankRow): [tone: Tone, time_ns: number][];
}

const PANES: Pane[] = [
  { title: "Step", share: 0.33, bars: (row) => CLASSES.map(([tone]) => [tone, row.breakdown_ns[tone] ?? 0]) },
  {
    title: "Exposed communication",
    share: 0.17,
    bars: (row) => [["communication", row.exposed_communication_ns]],
  },
  { title: "Waits for others", share: 0.14, bars: (row) => [["step", row.waiting_ns]] },
  { title: "Arrives late", share: 0.14, bars: (row) => [["data_wait", row.late_ns]] },
];
const STEPS = "Recorded steps";

export interface Place {
  title: string;
  left: number;
  width: number;
  /** The largest value, nanoseconds. */
  most: number;
}

/** Everything a drawing needs that does not change with the theme. */
export interface Drawing {
  lines: Line[];
  places: Place[]; // of the panes, that of the steps behind them
  /** Upper edges of the lines, and the lower one of the last. */
  tops: number[];
  isSpaced: boolean;
  steps: Steps;
  marked: ReadonlySet<number>;
}

/** Durations of the recorded steps, by line and step; NaN where a rank has none. */
interface Steps {
  count: number;
  durations: Float64Array;
  /** What is drawn lightest and darkest. */
  low: number;
  high: number;
}

/** `marked`: ranks whose lines are seen and named among however many others. */
export function drawingOf(lines: Line[], width: number, marked: ReadonlySet<number>): Drawing {
  const room = Math.max(width - LEFT - GAP * PANES.length, 1);
  let left = LEFT;
  const places = [...PANES, { title: STEPS, share: 1 - PANES.reduce((sum, { share }) => sum + share, 0) }].map(
    (pane) => {
      const place = { title: pane.title, left, width: pane.share * room, most: 0 };
      left += place.width + GAP;
      if ("bars" in pane) place.most = largest(lines, pane.bars);
      return place;
    },
  );
  const height = Math.min(TALLEST, HEIGHT / Math.max(lines.length, 1));
  let bottom = HEAD;
  const bottoms = lines.map(({ row }) => (bottom += marked.has(row.rank) ? Math.max(height, SEEN) : height));
  const tops = [HEAD, ...bottoms].map(Math.round);
  return { lines, places, tops, isSpaced: height >= SPACED, steps: stepsOf(lines), marked };
}

const largest = (lines: Line[], bars: Pane["bars"]): number =>
  lines.reduce((most, { row }) => Math.max(most, bars(row).reduce((sum, [, time]) => sum + time, 0)), 0);

function stepsOf(lines: Line[]): Steps {
  const count = lines.reduce((most, { row }) => Math.max(most, row.step_durations_ns.length), 0);
  const durations = new Float64Array(count * lines.length).fill(NaN);
  lines.forEach(({ row }, line) => durations.set(row.step_durations_ns, line * count));
  const sorted = durations.filter((value) => value === value).sort();
  const at = (share: number): number => sorted[Math.round(share * (sorted.length - 1))] ?? 0;
  return { count, durations, low: at(0), high: at(0.99) };
}

export function lineAt({ tops }: Drawing, y: number): number | null {
  const line = tops.findIndex((top, place) => y >= top && y < tops[place + 1]);
  return line < 0 ? null : line;
}

export const heightOf = ({ tops }: Drawing): number => tops.at(-1)!;

/** Draw on a context whose unit is a CSS pixel. */
export function draw(context: CanvasRenderingContext2D, drawing: Drawing, palette: Palette): void {
  PANES.forEach((pane, place) => drawBars(context, drawing, palette, pane, drawing.places[place]));
  drawSteps(context, drawing, palette);
  drawNumbers(context, drawing, palette);
}

function drawBars(
  context: CanvasRenderingContext2D,
  drawing: Drawing,
  { tones, line }: Palette,
  { bars }: Pane,
  { left, width, most }: Place,
): void {
  const space = drawing.isSpaced ? 2 : 0;
  context.fillStyle = line;
  context.fillRect(left - 1, HEAD, 1, heightOf(drawing) - HEAD);
  drawing.lines.forEach(({ row }, i) => {
    const top = drawing.tops[i];
    const height = drawing.tops[i + 1] - top - space;
    let x = left;
    for (const [tone, time] of bars(row)) {
      const length = most && (time / most) * width;
      context.fillStyle = tones[tone];
      // What is left of a pixel parts neighbours, so that borders are seen without telling colours apart.
      if (length > 0) context.fillRect(x, top, length - (space && length > 3 ? 1 : 0), height);
      x += length;
    }
  });
}

/** Each step a cell, the darker the longer it took. */
function drawSteps(context: CanvasRenderingContext2D, drawing: Drawing, { text, line }: Palette): void {
  const { steps, lines, places } = drawing;
  const { left, width } = places.at(-1)!;
  const space = drawing.isSpaced ? 2 : 0;
  const cell = width / Math.max(steps.count, 1);
  context.fillStyle = line;
  context.fillRect(left - 1, HEAD, 1, heightOf(drawing) - HEAD);
  context.fillStyle = text;
  for (let i = 0; i < lines.length; i++) {
    const top = drawing.tops[i];
    const height = drawing.tops[i + 1] - top - space;
    for (let step = 0; step < steps.count; step++) {
      const duration = steps.durations[i * steps.count + step];
      if (duration !== duration) continue;
      const x = Math.round(left + step * cell);
      context.globalAlpha = shadeOf(duration, steps);
      context.fillRect(x, top, Math.round(left + (step + 1) * cell) - x - (cell > SPACED ? 1 : 0), height);
    }
  }
  context.globalAlpha = 1;
}

/** Of steps that differ by less than a hundredth all are light: the eye would take noise for a difference. */
function shadeOf(duration: number, { low, high }: Steps): number {
  const range = Math.max(high - low, 0.01 * high, 1);
  return 0.06 + 0.86 * Math.min(Math.max((duration - low) / range, 0), 1);
}

/** The numbers of the ranks as far as there is room, those of the marked ones first and in bold. */
function drawNumbers(context: CanvasRenderingContext2D, { lines, tops, marked }: Drawing, palette: Palette): void {
  const taken = new Set<number>();
  const write = (line: number, font: string, colour: string): void => {
    const middle = Math.round((tops[line] + tops[line + 1]) / 2);
    for (let y = middle - LABELS + 1; y < middle + LABELS; y++) if (taken.has(y)) return;
    taken.add(middle);
    context.font = font;
    context.fillStyle = colour;
    context.fillText(`rank ${lines[line].row.rank}`, LEFT - 10, middle);
  };
  context.textAlign = "right";
  context.textBaseline = "middle";
  lines.forEach(({ row }, line) => marked.has(row.rank) && write(line, "600 12px system-ui", palette.text));
  lines.forEach((_, line) => write(line, "12px system-ui", palette.muted));
}
