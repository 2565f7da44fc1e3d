import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Table, type Column } from "./Table";
import { Tip } from "./Tip";

interface FigureProps<Row> {
  title: string;
  /** What a link finds it by. */
  id?: string;
  meaning?: string;
  /** The same as a table, for whoever would rather read than look. */
  columns?: Column<Row>[];
  rows?: Row[];
  /** How much of the page's width it takes; half without it. */
  width?: "wide" | "long" | "short" | "";
  children: ComponentChildren;
}

/** A card with a chart, or with the chart's table. */
export function Figure<Row>({ title, id, meaning, columns, rows, width = "", children }: FigureProps<Row>) {
  const [isTable, setTable] = useState(false);
  return (
    <section class={`card ${width}`} id={id}>
      <header>
        <h2>{meaning ? <Tip text={meaning}>{title}</Tip> : title}</h2>
        {columns && (
          <button class="quiet" aria-pressed={isTable} onClick={() => setTable(!isTable)}>
            Table<span class="sr"> of {title}</span>
          </button>
        )}
      </header>
      {isTable ? <Table caption={title} columns={columns!} rows={rows!} /> : children}
    </section>
  );
}
