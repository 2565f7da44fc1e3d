import type { Loading, Prediction } from "../data/types";

const GOOD_ENOUGH = 1.03; // of the shortest step, as in profkit.analysis.whatif

export interface Choice {
  workers: number;
  prediction: Prediction;
}

/** The curve over the number of workers. */
export const curveOf = ({ predictions }: Loading): Choice[] =>
  predictions
    .filter(({ kind }) => kind === "workers")
    .map((prediction): Choice => ({ workers: Number(Object.values(prediction.settings)[0]), prediction }))
    .filter(({ workers }) => Number.isFinite(workers))
    .sort((a, b) => a.workers - b.workers);

/** The fewest workers with which the step is as short as it gets. */
export function bestOf(curve: Choice[]): Choice | undefined {
  const shortest = Math.min(...curve.map(({ prediction }) => prediction.step_ns));
  return curve.find(({ prediction }) => prediction.step_ns <= GOOD_ENOUGH * shortest);
}

/** Settings as they are written in Python. */
export const pasted = (settings: Prediction["settings"]): string =>
  `DataLoader(…, ${Object.entries(settings)
    .map(([name, value]) => `${name}=${value}`)
    .join(", ")})`;
