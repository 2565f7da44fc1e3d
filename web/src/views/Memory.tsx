import type { Allocation, DeviceMemory, Report, StepMemory } from "../data/types";
import { Figure } from "../parts/Figure";
import { Series } from "../parts/Series";
import { column, Table, type Column } from "../parts/Table";
import { Recorded } from "../parts/Recorded";
import { Absent } from "../parts/Waiting";
import { count, duration, percent, size, sum } from "../units";
import { clean, MEANINGS } from "../words";

/** What the framework's allocators had in use inside the window. */
export function Memory() {
  return (
    <>
      <h1>Memory</h1>
      <Recorded>{(value) => <Devices report={value} />}</Recorded>
    </>
  );
}

function Devices({ report }: { report: Report }) {
  const devices = report.memory.devices
    .filter((device) => device.curve.length)
    .sort((a, b) => b.peak_bytes - a.peak_bytes);
  if (!devices.length) {
    return (
      <Absent title="Memory was not recorded">
        profkit asks PyTorch to record it unless told otherwise: profile(hooks=[PyTorchHook(profile_memory=True)]); a
        trace of torch.profiler holds it with profile_memory=True. What the process had in RAM is on the overview, below
        System.
      </Absent>
    );
  }
  return (
    <>
      {devices.map((device) => (
        <Device key={device.device} device={device} />
      ))}
    </>
  );
}

type Point = DeviceMemory["curve"][0];

function Device({ device }: { device: DeviceMemory }) {
  const { curve, peak_bytes, peak_time_ns } = device;
  const name = clean(device.device);
  return (
    <>
      <Figure
        title={`${name}: peak ${size(peak_bytes)}`}
        meaning={MEANINGS.memory}
        columns={POINTS}
        rows={curve}
        width="wide"
      >
        <Series
          label={`Memory of ${name} over the window`}
          x={curve.map(([time]) => time)}
          lines={linesOf(curve)}
          showX={duration}
          showY={size}
          height={240}
          binary
          marks={[peak_time_ns]}
        />
        <p class="muted">
          The line marks the peak, {duration(peak_time_ns)} into the window.
          {device.reserved_bytes !== null && ` The allocator had reserved up to ${size(device.reserved_bytes)}.`}
        </p>
      </Figure>
      <AtPeak device={device} />
      <Growth device={device} />
    </>
  );
}

function linesOf(curve: Point[]) {
  const allocated = {
    name: "allocated",
    tone: "compute",
    values: curve.map(([, bytes]) => bytes),
    filled: true,
    stepped: true,
  } as const;
  const reserved = { name: "reserved", tone: "step", values: curve.map((point) => point[2]), stepped: true } as const;
  return curve.some((point) => point[2] !== null) ? [allocated, reserved] : [allocated];
}

function AtPeak({
  device: { device, alive_at_peak, unknown_at_peak_bytes, peak_bytes, steps },
}: {
  device: DeviceMemory;
}) {
  const known = sum(alive_at_peak.map(({ bytes }) => bytes)) + unknown_at_peak_bytes;
  const rest = { module: null, count: 0 };
  const rows: Allocation[] = [
    ...alive_at_peak,
    ...(unknown_at_peak_bytes
      ? [
          {
            ...rest,
            operator: "unknown: allocated before recording began, or without an address",
            bytes: unknown_at_peak_bytes,
          },
        ]
      : []),
    ...(peak_bytes > known ? [{ ...rest, operator: "smaller ones", bytes: peak_bytes - known }] : []),
  ];
  return (
    <Figure
      title={`What lives at the peak of ${clean(device)}`}
      meaning={MEANINGS.alive}
      width={steps.length < 2 ? "wide" : ""}
    >
      <Table
        caption={`What lives at the peak of ${clean(device)}`}
        columns={ownersOf(
          peak_bytes,
          rows.some(({ module }) => module),
        )}
        rows={rows}
      />
    </Figure>
  );
}

function ownersOf(peak_bytes: number, hasModules: boolean): Column<Allocation>[] {
  const share = ({ bytes }: Allocation): number => bytes / peak_bytes;
  return [
    column("operator", "Allocated by", (row) => clean(row.operator)),
    ...(hasModules ? [column("module", "Module", (row: Allocation) => clean(row.module ?? "none"))] : []),
    column("bytes", "Size", (row) => row.bytes, size, { share }),
    column("share", "%", share, percent),
    column(
      "count",
      "Pieces",
      (row) => row.count,
      (pieces) => (pieces ? count(pieces) : "–"),
    ),
  ];
}

function Growth({ device: { device, steps } }: { device: DeviceMemory }) {
  if (steps.length < 2) return null;
  return (
    <Figure title={`From step to step on ${clean(device)}`} meaning={MEANINGS.growth} columns={STEPS} rows={steps}>
      <Series
        label={`Memory of ${clean(device)} from step to step`}
        x={steps.map(({ number }) => number)}
        lines={[
          { name: "largest within the step", tone: "step", values: steps.map((step) => step.peak_bytes) },
          { name: "when it ends", tone: "compute", values: steps.map((step) => step.end_bytes), filled: true },
        ]}
        showX={(number) => `step ${number}`}
        showY={size}
        height={200}
        binary
      />
      <p class="muted">{growthOf(steps)}</p>
    </Figure>
  );
}

function growthOf(steps: StepMemory[]): string {
  const growth = steps.at(-1)!.end_bytes - steps[0].end_bytes;
  const span = `from the end of step ${steps[0].number} to that of step ${steps.at(-1)!.number}`;
  if (!growth) return `As much is allocated ${span}.`;
  return `${growth > 0 ? "Grows" : "Shrinks"} by ${size(Math.abs(growth))} ${span}.`;
}

const POINTS: Column<Point>[] = [
  column("time", "Time", ([time]) => time, duration),
  column("allocated", "Allocated", ([, bytes]) => bytes, size),
  column(
    "reserved",
    "Reserved",
    (point) => point[2] ?? -1,
    (bytes) => (bytes < 0 ? "unknown" : size(bytes)),
  ),
];

const STEPS: Column<StepMemory>[] = [
  column("number", "Step", (step) => step.number),
  column("peak", "Largest", (step) => step.peak_bytes, size),
  column("end", "At its end", (step) => step.end_bytes, size),
];
