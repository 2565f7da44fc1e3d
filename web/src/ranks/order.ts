import type { RankRow } from "../data/types";

/** Which ranks are shown, in which order, and how many of them share a line. */

export interface Order {
  id: string;
  title: string;
  /** What is sorted by; the largest first, but for the rank itself. */
  of(row: RankRow): number;
}

export const ORDERS: Order[] = [
  { id: "rank", title: "Rank", of: (row) => -row.rank },
  { id: "late", title: "Latest", of: (row) => row.late_ns },
  { id: "waiting", title: "Waiting for others", of: (row) => row.waiting_ns },
  { id: "data", title: "Waiting for data", of: (row) => row.wait_ns },
  { id: "exposed", title: "Exposed communication", of: (row) => row.exposed_communication_ns },
  { id: "step", title: "Step", of: (row) => row.step_ns },
];

export const orderOf = (id: string | undefined): Order => ORDERS.find((order) => order.id === id) ?? ORDERS[0];

/** The rows in an order; of those that are equal the lower rank first. */
export const ordered = (rows: RankRow[], order: Order): RankRow[] =>
  [...rows].sort((a, b) => order.of(b) - order.of(a) || a.rank - b.rank);

/** The rows whose rank or host the words name: `0-63, 70` are ranks, anything else is a part of a host's name. */
export function among(rows: RankRow[], words: string): RankRow[] {
  const terms = words.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const isNamed = ({ rank, host }: RankRow, term: string): boolean => {
    const [from, to] = rangeOf(term) ?? [];
    return from === undefined ? host.toLowerCase().includes(term) : rank >= from && rank <= to!;
  };
  return terms.length ? rows.filter((row) => terms.some((term) => isNamed(row, term))) : rows;
}

/** `7` and `7-9`. */
function rangeOf(term: string): [from: number, to: number] | null {
  const [, from, to] = /^(\d+)(?:[-–](\d+))?$/.exec(term) ?? [];
  return from === undefined ? null : [Number(from), Number(to ?? from)];
}

/** The ranks that the words name, each once, at most `most`; of `known` ones alone. */
export function ranksIn(words: string, known: ReadonlySet<number>, most: number): number[] {
  const ranges = words.split(/[\s,]+/).flatMap((term) => [rangeOf(term)].filter((range) => range !== null));
  const named = [...known].filter((rank) => ranges.some(([from, to]) => rank >= from && rank <= to));
  const placeOf = (rank: number): number => ranges.findIndex(([from, to]) => rank >= from && rank <= to);
  return named.sort((a, b) => placeOf(a) - placeOf(b) || a - b).slice(0, most);
}

/** `0–3, 7`, cut off after some ranges. */
export function rangesOf(ranks: number[], most = 12): string {
  const ranges: [from: number, to: number][] = [];
  for (const rank of [...ranks].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last && rank <= last[1] + 1) last[1] = rank;
    else ranges.push([rank, rank]);
  }
  const words = ranges.slice(0, most).map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`));
  return words.join(", ") + (ranges.length > most ? ", …" : "");
}

/** What is drawn in one line: the latest of the ranks that share it. */
export interface Line {
  row: RankRow;
  /** Ranks that share the line. */
  count: number;
}

/** Lines of neighbours, about `most` where there are more ranks than that; a rank that is marked has one for itself. */
export function linesOf(rows: RankRow[], most: number, marked: ReadonlySet<number>): Line[] {
  const shared = Math.ceil(rows.length / most);
  const lines: Line[] = [];
  let isOpen = false; // the last line, to more ranks
  for (const row of rows) {
    const last = lines.at(-1);
    const isMarked = marked.has(row.rank);
    if (!last || !isOpen || isMarked || last.count >= shared) lines.push({ row, count: 1 });
    else lines[lines.length - 1] = { row: row.late_ns > last.row.late_ns ? row : last.row, count: last.count + 1 };
    isOpen = !isMarked;
  }
  return lines;
}

export const mean = (values: number[]): number =>
  values.length ? values.reduce((total, value) => total + value, 0) / values.length : 0;
