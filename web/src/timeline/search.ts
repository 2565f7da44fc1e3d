import type { Tone } from "../palette";
import type { Timeline } from "./format";
import { lowerBound } from "./spans";
import { toneOfLabel } from "./tone";

/** Which labels are looked for: a mask over the labels, so that a million spans cost what their distinct names do. */

/** The pattern as a regular expression without regard to case; null where it is empty. Throws SyntaxError. */
export function patternOf(text: string): RegExp | null {
  return text ? new RegExp(text, "iu") : null;
}

/** Why the pattern is none, in a sentence; null where it is one. */
export function complaint(text: string): string | null {
  try {
    patternOf(text);
    return null;
  } catch (error) {
    const reason = (error as Error).message.split(": ").at(-1);
    return `Not a regular expression: ${reason}.`;
  }
}

/** Which words the pattern is found in. */
export function wordsFound(words: string[], pattern: RegExp): boolean[] {
  return words.map((word) => pattern.test(word));
}

/** 1 for each label whose name has the pattern and whose tone is not hidden; null where all labels do. */
export function maskOf(t: Timeline, pattern: RegExp | null, hidden: ReadonlySet<Tone>): Uint8Array | null {
  if (!pattern && !hidden.size) return null;
  const found = pattern && wordsFound(t.words, pattern);
  return Uint8Array.from(t.labels.name, (name, label) =>
    (!found || found[name]) && !(hidden.size && hidden.has(toneOfLabel(t, label))) ? 1 : 0,
  );
}

/** Of each label: how many spans have it, and their time. */
export interface LabelSums {
  calls: Float64Array;
  time: Float64Array;
}

export function labelSums(t: Timeline): LabelSums {
  const sums = { calls: new Float64Array(t.labels.name.length), time: new Float64Array(t.labels.name.length) };
  for (let i = 0; i < t.count; i++) {
    sums.calls[t.label[i]]++;
    sums.time[t.label[i]] += t.duration[i];
  }
  return sums;
}

/** How many spans the mask lets through, and the sum of their durations in nanoseconds. */
export function hitsOf(sums: LabelSums, mask: Uint8Array): { calls: number; time: number } {
  let calls = 0;
  let time = 0;
  mask.forEach((isHit, label) => {
    if (!isHit) return;
    calls += sums.calls[label];
    time += sums.time[label];
  });
  return { calls, time };
}

/** The next hit in time (`direction` 1), or the one before (-1), from `span` or else the time `now`; -1: none. */
export function nextHit(t: Timeline, mask: Uint8Array, span: number, now: number, direction: 1 | -1): number {
  const time = span < 0 ? now : t.start[span];
  // Spans that start together come in the order of their places.
  const isBehind = (i: number): boolean => (t.start[i] - time || i - span) * direction > 0;
  let best = -1;
  for (const { first, count } of t.rows) {
    const last = first + count;
    let i = lowerBound(t.start, first, last, time);
    if (direction < 0) while (i < last && t.start[i] === time) i++;
    else i--;
    do i += direction;
    while (i >= first && i < last && !(mask[t.label[i]] && isBehind(i)));
    if (i < first || i >= last) continue;
    if (best < 0 || (t.start[i] - t.start[best] || i - best) * direction < 0) best = i;
  }
  return best;
}
