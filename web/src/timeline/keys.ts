import type { Chart } from "./chart";

/** The keys, for whoever lists them. */
export const TIMELINE_KEYS: [keys: string, meaning: string][] = [
  ["w s", "zoom in, out"],
  ["a d", "move left, right"],
  ["← →", "select the span before, after"],
  ["↑ ↓", "select the caller, the first one called"],
  ["f 0", "fit the selected span, everything"],
  ["[ ]", "show the step before, after"],
  ["m", "mark the time of the selected span and sum it up"],
  ["/", "search"],
  ["n N", "next hit, the one before"],
  ["Esc", "clear selection and range"],
];

const SPEED = 0.0018; // share of the width, and of the zoom's exponent, per millisecond
const TAP = 110; // milliseconds that a key moves at least
const MOVES: Record<string, (chart: Chart, amount: number) => void> = {
  w: (chart, amount) => chart.zoom(Math.exp(-1.6 * amount)),
  s: (chart, amount) => chart.zoom(Math.exp(1.6 * amount)),
  a: (chart, amount) => chart.pan(-amount),
  d: (chart, amount) => chart.pan(amount),
};

/** Moves smoothly while keys are held. */
export class Motion {
  readonly #held = new Map<string, number>(); // key -> when it ends; Infinity: still held
  readonly #begun = new Map<string, number>();
  #frame = 0;

  constructor(private readonly chart: Chart) {}

  press(key: string): boolean {
    if (!MOVES[key]) return false;
    if (!this.#held.has(key)) this.#begun.set(key, performance.now());
    this.#held.set(key, Infinity);
    this.#frame ||= this.#next(performance.now());
    return true;
  }

  release(key: string): void {
    if (this.#held.has(key)) this.#held.set(key, Math.max(performance.now(), this.#begun.get(key)! + TAP));
  }

  stop(): void {
    this.#held.clear();
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
  }

  #next(before: number): number {
    return requestAnimationFrame(() => {
      const now = performance.now();
      for (const [key, end] of this.#held) {
        MOVES[key](this.chart, (Math.min(now, end) - Math.min(before, end)) * SPEED);
        if (now >= end) this.#held.delete(key);
      }
      this.#frame = this.#held.size ? this.#next(now) : 0;
    });
  }
}

/** What a key does once; whether there is such a key. */
export function act(chart: Chart, key: string, say: (words: string) => void): boolean {
  const action = ACTIONS[key];
  if (action) action(chart, say);
  else if (key.startsWith("Arrow")) chart.step(key);
  return !!action || key.startsWith("Arrow");
}

type Action = (chart: Chart, say: (words: string) => void) => void;

const toStep = (chart: Chart, direction: 1 | -1, say: (words: string) => void): void => {
  const number = chart.toStep(direction);
  say(number === null ? "No step" : `Step ${number}`);
};

const ACTIONS: Record<string, Action> = {
  f: (chart) => chart.fitSpan(chart.span),
  "0": (chart) => chart.fitAll(),
  m: (chart) => chart.markSpan(),
  n: (chart) => chart.toHit(1),
  N: (chart) => chart.toHit(-1),
  Enter: (chart) => chart.toHit(1),
  "[": (chart, say) => toStep(chart, -1, say),
  "]": (chart, say) => toStep(chart, 1, say),
  Escape: (chart) => chart.clear(),
};
