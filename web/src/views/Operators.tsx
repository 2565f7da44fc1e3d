import { useMemo } from "preact/hooks";
import type { Operator, OperatorClass, Report } from "../data/types";
import { column, Table, type Column } from "../parts/Table";
import { Recorded } from "../parts/Recorded";
import { useShown } from "../shown";
import { complaint, patternOf } from "../timeline/search";
import { count, duration, percent, sum } from "../units";
import { clean, literal, MEANINGS, plain } from "../words";

/** What ran, by what it is told apart by. */
export function Operators() {
  return (
    <>
      <h1>Operators</h1>
      <Recorded>{(value) => <Tables report={value} />}</Recorded>
    </>
  );
}

interface Tab {
  id: string;
  title: string;
  rows: Operator[] | OperatorClass[];
  /** Why it is empty. */
  absent: string;
}

const tabsOf = (report: Report): Tab[] => [
  { id: "name", title: "By operator", rows: report.operators, absent: "No operator was recorded." },
  { id: "shape", title: "By shape", rows: report.operators_by_shape, absent: "No operator was recorded." },
  {
    id: "module",
    title: "By module",
    rows: report.operators_by_module,
    absent: "Modules were not recorded. With PyTorch: profile(hooks=[PyTorchHook(with_stack=True)]).",
  },
  { id: "class", title: "By class", rows: report.operator_classes, absent: "No operator was recorded." },
  { id: "kernel", title: "Device kernels", rows: report.kernels, absent: "No work of a device was recorded." },
];

function Tables({ report }: { report: Report }) {
  const { place, go } = useShown();
  const tabs = tabsOf(report);
  const tab = tabs.find(({ id }) => id === place.tab) ?? tabs[0];
  const filter = place.filter ?? "";
  const objection = complaint(filter);
  const rows = useMemo(() => filtered(tab.rows, objection ? "" : filter), [tab.rows, filter]);
  const columns = useMemo(
    () => columnsOf(tab.id, report, (name) => go({ view: "timeline", search: literal(name) }, true)),
    [tab.id, report],
  );
  return (
    <section class="card wide">
      <div class="bar">
        <div class="tabs" role="group" aria-label="Told apart by">
          {tabs.map(({ id, title }) => (
            <button key={id} aria-pressed={id === tab.id} onClick={() => go({ tab: id, sort: undefined })}>
              {title}
            </button>
          ))}
        </div>
        <input
          type="search"
          class="search"
          aria-label="Filter rows by a regular expression"
          aria-invalid={!!objection}
          placeholder="Filter, e.g. ^aten::.*backward"
          value={filter}
          onInput={(event) => go({ filter: event.currentTarget.value })}
        />
        <span class="muted" role="status">
          {objection ?? `${count(rows.length)} of ${count(tab.rows.length)}`}
        </span>
      </div>
      {tab.rows.length ? (
        <Table<Operator & OperatorClass>
          key={tab.id}
          caption={`Operators, ${tab.title.toLowerCase()}`}
          columns={columns}
          rows={rows as (Operator & OperatorClass)[]}
          sort={place.sort}
          onSort={(sort) => go({ sort })}
        />
      ) : (
        <p>{tab.absent}</p>
      )}
      {tab.id === "class" && <Unclassified report={report} />}
    </section>
  );
}

function Unclassified({ report: { unclassified_share, unclassified_device_share } }: { report: Report }) {
  if (unclassified_share === null) return null;
  return (
    <p class="muted">
      Without a class: {percent(unclassified_share)} of self time
      {unclassified_device_share !== null && ` and ${percent(unclassified_device_share)} of device time`}. A name that
      is not in the list has no class: a wrong one would be worse.
    </p>
  );
}

/** The rows that the regular expression finds. */
function filtered(rows: Tab["rows"], filter: string): Tab["rows"] {
  const pattern = patternOf(filter);
  return pattern ? (rows as Row[]).filter((row) => pattern.test(textOf(row))) : rows;
}

const textOf = (row: Operator | OperatorClass): string =>
  "name" in row ? [row.name, row.shapes, row.module, row.op_class].join(" ") : `${row.op_class}`;

type Row = Operator & OperatorClass;

/** Of the table by operator, by shapes or by module, of that of device work, or of that by class. */
function columnsOf(tab: string, report: Report, find: (name: string) => void): Column<Row>[] {
  const name = nameColumn(find);
  const ofClass = column<Row, string>(
    "class",
    "Class",
    (row) => row.op_class ?? (tab === "class" ? "no class" : plain(row.kind)),
  );
  const calls = column<Row, number>("calls", "Calls", (row) => row.calls, count);
  const mean = column<Row, number>("mean", "Mean", (row) => row.total_ns / row.calls, duration, {
    meaning: "Total time over calls.",
  });
  const self = timeColumns("self", "Self", (row) => row.self_ns, sharesOf(report, "self_ns"), MEANINGS.self);
  const device = timeColumns(
    "device",
    "Device",
    (row) => row.device_ns,
    sharesOf(report, "device_ns"),
    MEANINGS.device,
  );
  const onDevice = report.kernels.length ? device : [];
  if (tab === "class") return [ofClass, calls, ...self, ...onDevice];
  if (tab === "kernel") {
    const total = timeColumns(
      "total",
      "Device",
      (row) => row.total_ns,
      sharesOf(report, "total_ns"),
      "Summed over streams.",
    );
    return [name, ofClass, calls, ...total, mean];
  }
  const total = column<Row, number>("total", "Total", (row) => row.total_ns, duration, { meaning: MEANINGS.total });
  return [name, ...(APART[tab] ?? []), ofClass, calls, ...self, total, ...onDevice, mean];
}

const APART: Record<string, Column<Row>[]> = {
  shape: [column("shape", "Shapes", (row) => clean(row.shapes ?? "none"))],
  module: [column("module", "Module", (row) => clean(row.module ?? "none"))],
};

const LONGEST = 500; // characters of a name in a row of the table

const nameColumn = (find: (name: string) => void): Column<Row> =>
  column(
    "name",
    "Name",
    (row) => clean(row.name).slice(0, LONGEST),
    (name, row) => (
      <button class="link" onClick={() => find(row.name)}>
        {name}
      </button>
    ),
  );

/** What share a row has of all self time; of device work, whose rows hold those of what they call, of all that ran. */
function sharesOf(report: Report, time: "self_ns" | "total_ns" | "device_ns"): (row: Row) => number {
  const { operators, kernels } = report;
  const whole = sum(time === "self_ns" ? operators.map((row) => row.self_ns) : kernels.map((row) => row.total_ns)) || 1;
  return (row) => row[time] / whole;
}

const timeColumns = (
  id: string,
  title: string,
  time: (row: Row) => number,
  share: (row: Row) => number,
  meaning: string,
) => [column(id, title, time, duration, { meaning, share }), column(`${id}_share`, "%", share, percent)];
