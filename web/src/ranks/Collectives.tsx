import type { CollectiveRow } from "../data/types";
import { Absent, clean, column, count, duration, Figure, size, Table } from "../given";
import { UNKNOWN, unlessUnknown } from "./unknown";

const MEANING =
  "All calls of one operation within one process group. Waiting: from a rank's own arrival to the last one, the mean " +
  "over ranks. Transfer: from the last arrival to the end. Bandwidth: bytes of a call over its transfer.";

/** What the ranks exchange, and whether it or the waiting for it takes the time. */
export function Collectives({ rows }: { rows: CollectiveRow[] }) {
  if (!rows.length) {
    return <Absent title="Collectives">No collective was found on two ranks of the recorded windows.</Absent>;
  }
  return (
    <Figure title="Collectives" meaning={MEANING} id="collectives" width="wide">
      <Table caption="Collectives" columns={COLUMNS} rows={rows} />
    </Figure>
  );
}

/** Bytes per second. */
const bandwidthOf = ({ bytes, transfer_ns }: CollectiveRow): number =>
  bytes === null || transfer_ns <= 0 ? UNKNOWN : (bytes / transfer_ns) * 1e9;

const COLUMNS = [
  column("name", "Operation", (row: CollectiveRow) => clean(row.name)),
  column("group", "Group", (row: CollectiveRow) => (row.group ? clean(row.group) : "–")),
  column("dtype", "Type", (row: CollectiveRow) => (row.dtype === null ? "–" : clean(row.dtype))),
  column("ranks", "Ranks", (row: CollectiveRow) => row.ranks, count),
  column("calls", "Calls", (row: CollectiveRow) => row.calls, count),
  column("bytes", "Bytes", (row: CollectiveRow) => row.bytes ?? UNKNOWN, unlessUnknown(size)),
  column("waiting", "Waiting", (row: CollectiveRow) => row.waiting_ns, duration, { share: (row) => row.waiting_ns }),
  column("transfer", "Transfer", (row: CollectiveRow) => row.transfer_ns, duration, {
    share: (row) => row.transfer_ns,
  }),
  column("skew", "Skew", (row: CollectiveRow) => row.skew_ns, duration, {
    meaning: "From the first arrival to the last one, the mean over calls.",
  }),
  column("bandwidth", "Bandwidth", bandwidthOf, unlessUnknown((value) => `${size(value)}/s`)),
];
