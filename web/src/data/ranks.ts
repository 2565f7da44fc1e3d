import type { RunEntry } from "./types";

/** `digits/rank=3` is rank 3 of the run `digits`, which is rank 0 itself; and `.` the one that the log folder is. */
const RANK = /(?:^|\/)rank=(\d+)$/;

export const nameOf = (run: string): string => run.replace(RANK, "") || ".";
export const rankOf = (run: string): number => Number(RANK.exec(run)?.[1] ?? 0);

/** Names of runs, and the ranks of one, as people order them. */
export const namesOf = (runs: RunEntry[]): string[] =>
  [...new Set(runs.map(({ run }) => nameOf(run)))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));

export const ranksOf = (runs: RunEntry[], name: string): string[] =>
  runs
    .map(({ run }) => run)
    .filter((run) => nameOf(run) === name)
    .sort((a, b) => rankOf(a) - rankOf(b));

/** The first rank of the run with the newest page. */
export function newestOf(runs: RunEntry[]): RunEntry | undefined {
  const newest = runs.reduce<RunEntry | undefined>(
    (a, b) => (a && Number(a.version) >= Number(b.version) ? a : b),
    undefined,
  );
  const [first] = newest ? ranksOf(runs, nameOf(newest.run)) : [];
  return runs.find(({ run }) => run === first);
}
