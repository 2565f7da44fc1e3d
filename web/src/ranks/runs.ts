import type { RankRow } from "../data/types";
import { clean, ELSEWHERE, nameOf, rankOf, useMemo, useShown } from "../given";

/** The ranks that have a page of their own here, and the way to it. */
export interface Runs {
  of(rank: number): string | undefined;
  open(rank: number, view: string): void;
}

export function useRuns(): Runs {
  const { runs, run, page, go } = useShown();
  return useMemo(() => {
    const name = nameOf(run);
    const known = new Map(
      runs.filter((entry) => nameOf(entry.run) === name).map((entry) => [rankOf(entry.run), entry.run]),
    );
    known.set(page.rank, run);
    return {
      of: (rank) => known.get(rank),
      open: (rank, view) => go({ ...ELSEWHERE, run: known.get(rank), view }, true),
    };
  }, [runs, run, page.rank]);
}

/** A rank and, where it is known, its host. */
export const titleOf = ({ rank, host }: RankRow): string => `Rank ${rank}${host ? ` on ${clean(host)}` : ""}`;
