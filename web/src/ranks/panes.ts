import type { RankRow } from "../data/types";
import { CLASSES } from "../given";
import type { Palette, Tone } from "../palette";
import type { Surface } from "../timeline/scene";
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

export function draw({ context, width, height }: Surface, drawing: Drawing, palette: Palette): void {
  context.fillStyle = palette.card;
  context.fillRect(0, 0, width, height);
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
function drawSteps(context: CanvasRenderingContext2D, drawing: Drawing, { text, line, card }: Palette): void {
  const { steps, places, tops } = drawing;
  const { left, width } = places.at(-1)!;
  context.fillStyle = line;
  context.fillRect(left - 1, HEAD, 1, heightOf(drawing) - HEAD);
  if (!steps.count) return;
  const cells = cellsOf(drawing, parseInt(text.slice(1), 16));
  context.imageSmoothingEnabled = false;
  drawing.lines.forEach((_, i) => {
    const height = tops[i + 1] - tops[i] - (drawing.isSpaced ? 2 : 0);
    context.drawImage(cells, 0, i, steps.count, 1, left, tops[i], width, height);
  });
  const cell = width / steps.count;
  context.fillStyle = card;
  for (let step = 1; step < steps.count && cell > SPACED; step++) {
    context.fillRect(Math.round(left + step * cell) - 1, HEAD, 1, heightOf(drawing) - HEAD);
  }
}

/** A picture with a pixel for each step of each line: ten thousands of rectangles would take a tenth of a second. */
function cellsOf({ steps, lines }: Drawing, colour: number): OffscreenCanvas {
  const picture = new OffscreenCanvas(steps.count, lines.length);
  const context = picture.getContext("2d")!;
  const image = context.createImageData(picture.width, picture.height);
  steps.durations.forEach((duration, i) => {
    if (duration !== duration) return;
    image.data.set([colour >> 16, (colour >> 8) & 255, colour & 255, Math.round(255 * shadeOf(duration, steps))], 4 * i);
  });
  context.putImageData(image, 0, 0);
  return picture;
}

/** Of steps that differ by less than a hundredth all are light: the eye would take noise for a difference. */
function shadeOf(duration: number, { low, high }: Steps): number {
  const range = Math.max(high - low, 0.01 * high, 1);
  return 0.06 + 0.86 * Math.min(Math.max((duration - low) / range, 0), 1);
}

/** The numbers of the ranks as far as there is room, those of the marked ones first, in bold, and below each other. */
function drawNumbers(context: CanvasRenderingContext2D, drawing: Drawing, palette: Palette): void {
  const { lines, tops, marked } = drawing;
  const taken: number[] = [];
  const isTaken = (y: number): boolean => taken.some((other) => Math.abs(y - other) < LABELS);
  const write = (line: number, y: number, font: string, colour: string): void => {
    taken.push(y);
    context.font = `${font} 12px system-ui`;
    context.fillStyle = colour;
    context.fillText(`rank ${lines[line].row.rank}`, LEFT - 10, y);
  };
  context.textAlign = "right";
  context.textBaseline = "middle";
  const bottom = heightOf(drawing) - LABELS / 2;
  lines.forEach(({ row }, line) => {
    if (!marked.has(row.rank)) return;
    let y = middleOf(tops, line);
    while (isTaken(y)) y += LABELS;
    write(line, y, "600", palette.text);
  });
  lines.forEach((_, line) => {
    const y = middleOf(tops, line);
    if (!isTaken(y) && y <= bottom) write(line, y, "400", palette.muted);
  });
}

const middleOf = (tops: number[], line: number): number => Math.round((tops[line] + tops[line + 1]) / 2);
