import type { ComponentChildren } from "preact";
import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { sum } from "../units";
import { Tip } from "./Tip";

export interface Column<Row> {
  id: string;
  title: string;
  /** What is sorted by. */
  value(row: Row): string | number;
  /** The value in words. */
  show(value: never, row: Row): ComponentChildren;
  meaning?: string | undefined;
  /** A bar behind the value; the column's largest fills its cell. */
  share?: ((row: Row) => number) | undefined;
}

/** A column in one line. */
export const column = <Row, Value extends string | number>(
  id: string,
  title: string,
  value: (row: Row) => Value,
  show: (value: Value, row: Row) => ComponentChildren = (value) => value,
  more: Pick<Column<Row>, "meaning" | "share"> = {},
): Column<Row> => ({ id, title, value, show, ...more });

interface TableProps<Row> {
  caption: string;
  columns: Column<Row>[];
  rows: Row[];
  /** Id of a column, with `-` before it where the largest comes first; without it the rows stay as they are. */
  sort?: string | undefined;
  onSort?(sort: string): void;
}

const ROW = 28; // CSS pixels, as in page.css
const FREE = 200; // CSS pixels of a column that takes what the others leave, at least
const CLASS = 150; // of words behind other words
const SPARE = 5; // rows beyond either edge

/** A table of which only the visible rows exist, so that ten thousand are as quick as ten. */
export function Table<Row>({ caption, columns, rows, sort: asked, onSort }: TableProps<Row>) {
  const [own, setOwn] = useState<string | undefined>();
  const sort = asked ?? own;
  const sorted = useMemo(() => sortedBy(rows, columns, sort), [rows, columns, sort]);
  const { box, first, last } = useVisible(sorted.length);
  const most = useMemo(
    () => columns.map(({ share }) => rows.reduce((a, row) => Math.max(a, share?.(row) ?? 0), 0)),
    [rows, columns],
  );
  const widths = columns.map((c, place) => widthOf(c, place, rows));
  const ordered = sort?.replace("-", "");
  return (
    <div class="table" ref={box} tabIndex={0} role="region" aria-label={caption}>
      <table aria-rowcount={sorted.length + 1} style={{ minWidth: `${sum(widths.map((width) => width || FREE))}px` }}>
        <caption>{caption}</caption>
        <thead>
          <tr>
            {columns.map((c, place) => (
              <Heading
                key={c.id}
                column={c}
                width={widths[place]}
                isText={isText(c, rows)}
                order={c.id !== ordered ? "none" : sort!.startsWith("-") ? "descending" : "ascending"}
                choose={onSort ?? setOwn}
              />
            ))}
          </tr>
        </thead>
        <tbody>
          <Space rows={first} />
          {/* A row that leaves at one end comes back at the other: of the rest nothing is touched. */}
          {sorted.slice(first, last).map((row, index) => (
            <tr key={(first + index) % (last - first)} aria-rowindex={first + index + 2}>
              {columns.map((c, place) => (
                <Cell key={c.id} column={c} row={row} most={most[place]} />
              ))}
            </tr>
          ))}
          <Space rows={sorted.length - last} />
        </tbody>
      </table>
    </div>
  );
}

const isText = <Row,>(column: Column<Row>, rows: Row[]): boolean =>
  !rows[0] || typeof column.value(rows[0]) === "string";

/** CSS pixels; 0: what is left. */
function widthOf<Row>(column: Column<Row>, place: number, rows: Row[]): number {
  if (!isText(column, rows)) return Math.max(84, 44 + 8 * column.title.length);
  return place && column.title === "Class" ? CLASS : 0;
}

function sortedBy<Row>(rows: Row[], columns: Column<Row>[], sort: string | undefined): Row[] {
  const by = columns.find(({ id }) => id === sort?.replace("-", ""));
  if (!by) return rows;
  const sign = sort!.startsWith("-") ? -1 : 1;
  const values = new Map(rows.map((row) => [row, by.value(row)]));
  return [...rows].sort((a, b) => {
    const [one, other] = [values.get(a)!, values.get(b)!];
    return one < other ? -sign : one > other ? sign : 0;
  });
}

/** Which rows the scrolled box shows. */
function useVisible(count: number) {
  const box = useRef<HTMLDivElement>(null);
  const [first, setFirst] = useState(0);
  const [height, setHeight] = useState(600);
  useLayoutEffect(() => {
    const element = box.current!;
    const scrolled = (): void => setFirst(Math.max(0, Math.floor(element.scrollTop / ROW) - SPARE));
    const observer = new ResizeObserver(() => setHeight(element.clientHeight));
    element.addEventListener("scroll", scrolled, { passive: true });
    observer.observe(element);
    return () => {
      element.removeEventListener("scroll", scrolled);
      observer.disconnect();
    };
  }, []);
  const from = Math.min(first, count);
  return { box, first: from, last: Math.min(count, from + Math.ceil(height / ROW) + 2 * SPARE) };
}

function Space({ rows }: { rows: number }) {
  return rows > 0 ? <tr class="space" aria-hidden="true" style={{ height: `${rows * ROW}px` }} /> : null;
}

function Heading<Row>({
  column,
  width,
  isText,
  order,
  choose,
}: {
  column: Column<Row>;
  width: number;
  isText: boolean;
  order: "none" | "ascending" | "descending";
  choose(sort: string): void;
}) {
  const { id, title, meaning } = column;
  const next = order === "none" ? (isText ? id : `-${id}`) : order === "ascending" ? `-${id}` : id;
  return (
    <th scope="col" aria-sort={order} class={isText ? "words" : ""} style={{ width: width ? `${width}px` : "" }}>
      <button class="sort" onClick={() => choose(next)}>
        {title}
      </button>
      {meaning && <Tip text={meaning}>?</Tip>}
    </th>
  );
}

function Cell<Row>({ column, row, most }: { column: Column<Row>; row: Row; most: number }) {
  const value = column.value(row);
  const share = column.share?.(row) ?? 0;
  return (
    <td class={typeof value === "string" ? "words" : ""} title={typeof value === "string" ? value : undefined}>
      {share > 0 && <i class="share" style={{ width: `${(100 * share) / most}%` }} />}
      <span>{column.show(value as never, row)}</span>
    </td>
  );
}
