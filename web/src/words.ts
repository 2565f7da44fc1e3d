import type { Tone } from "./palette";
import type { Report, Scalar } from "./data/types";
import { count, duration, fixed, percent, size } from "./units";

/** What things are called, and what they mean: docs/definitions.md in short. */

/** The classes of the exclusive breakdown, in the order in which they are stacked. */
export const CLASSES: [tone: Tone, name: string, meaning: string][] = [
  ["data_wait", "Data wait", "The training thread waits for a batch, and no device computes."],
  ["compute", "Compute", "Device kernels that are no collectives; without a device, operators of any thread."],
  ["communication", "Communication", "Collectives: ranks exchange data."],
  ["copy", "Copy", "A device copies or sets memory."],
  ["runtime", "Runtime", "The training thread is inside the device's runtime: launches, synchronisation."],
  ["host", "Host", "The training thread runs anything else that was recorded: operators, ranges, Python."],
  ["unattributed", "Unattributed", "Nothing was recorded."],
];

export const PHASES: [tone: Tone, name: string, meaning: string][] = [
  ["data_wait", "Data", "Inside a wait for data."],
  ["forward", "Forward", "Inside an operator that has a backward partner."],
  ["backward", "Backward", "Inside the autograd engine or the gradient tape."],
  ["optimizer", "Optimizer", "Inside the optimizer's range."],
  ["unattributed", "No phase", "Time of the step in which no phase could be proven."],
];

export const MEANINGS = {
  breakdown:
    "Each instant of a step goes to the first class that holds it, so that they add up to the step. With a device the " +
    "order is compute, communication, copy, data wait, runtime, host.",
  phases: "Time that the spans of each phase cover on the host. The device's work may run later.",
  step:
    "From the end of the step before to its own end, with the wait for its batch, without evaluation and " +
    "checkpoints. Steady steps outside the windows, where there are any.",
  wait:
    "Wait: the time between asking a loader for a batch and having it. Exposed: while no device works. " +
    "The share is exposed wait over step time.",
  compute: "Part of the recorded steps in which a device computes; without a device, in which an operator runs.",
  memory: "Most that the framework's allocator had in use at one time inside the window.",
  resident: "Most that the training had in RAM over the run.",
  overhead: "profkit's own time per step outside windows, by its own clock, over the median step.",
  series: "Steps as they were recorded; of long runs the longest of each stretch.",
  distribution: "Of the steps that the verdict rests on.",
  system: "Samples over the life of the run. 100 % of a CPU is one core.",
  self: "Durations less those of direct children on the same thread.",
  total: "Time covered by the name's spans on each thread: a call inside a call of the same name counts once.",
  device: "Device work launched from inside, summed over streams.",
  alive: "Allocations not freed when memory was at its peak, by the operator that made them.",
  growth:
    "Largest allocation within each step, and what is allocated when it ends. What grows on is kept by something.",
  stages: "Work of all of the stage's threads for one batch, by tf.data's own model.",
  slowest: "Work per batch over threads: no batch can come faster than its slowest stage.",
  startup: "Making iterators and workers, and the first batch of each pass. It is kept apart from the wait.",
  period: "The shortest number of steps after which the waits repeat, seen four times or more.",
  hidden: "Wait while no device works. The rest is hidden behind the device's work.",
} as const;

const FRAMEWORKS: Record<string, string> = {
  torch: "PyTorch",
  tensorflow: "TensorFlow",
  keras: "Keras",
  jax: "JAX",
};

/** `PyTorch 2.13`. */
export function frameworksOf(report: Report): string {
  const named = Object.entries(report.frameworks).map(
    ([name, version]) => `${FRAMEWORKS[name] ?? name} ${version.split(".").slice(0, 2).join(".")}`,
  );
  return named.join(" · ");
}

/** What became of the run: its tone, a word, and a sentence. */
export function stateOf(state: string): [tone: string, word: string, sentence: string] {
  if (state === "finished") return ["good", "finished", "The run ended."];
  if (state === "running") return ["live", "running", "The training runs; the page follows it."];
  if (state === "trace") return ["", "trace file", "A trace file: it knows only what lies inside its window."];
  if (state === "without notice")
    return ["bad", "killed", "The run ended without notice: it was killed or the machine stopped."];
  return ["bad", state, `The run ended with ${state}.`];
}

/** `cpu_percent` as `CPU`, `disk_read_bytes_per_s` as `disk read`: the unit stands beside the value. */
export function plain(name: string): string {
  return name
    .replace(/_(ns|bytes|share|percent)(?=_|$)|_per_s$/g, "")
    .replace(/_/g, " ")
    .replace(/\b[cg]pu\b/g, (word) => word.toUpperCase());
}

/** A value in the unit its name ends with. */
export function valued(name: string, value: Scalar): string {
  if (typeof value !== "number") return value === null ? "unknown" : clean(`${value}`);
  if (/_ns(_|$)/.test(name)) return duration(value);
  if (/_bytes(_|$)/.test(name)) return size(value);
  if (/_share$/.test(name)) return percent(value);
  return `${value}`;
}

/** Text of a trace on one line, without what is not seen or turns the direction of writing. */
export const clean = (text: string): string => text.replace(/\s+/g, " ").replace(/\p{C}/gu, "").trim() || "(no name)";

/** A sample of a counter, in the unit that its name ends with. */
export function sampled(name: string, value: number): string {
  const rate = /_per_s$/.test(name) ? "/s" : "";
  if (/_bytes(_|$)/.test(name)) return size(value) + rate;
  const digits = count(Number(fixed(value, Math.abs(value) < 10 ? 1 : 0)));
  return /_percent$/.test(name) ? `${digits} %` : digits + rate;
}

/** A pattern that finds exactly this name. */
export const literal = (name: string): string => `^${name.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")}$`;
