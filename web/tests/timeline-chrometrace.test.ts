import assert from "node:assert/strict";
import test from "node:test";
import { chromeTrace } from "../src/timeline/chrometrace";
import { largeParts, timelineOf, type Parts } from "./timelines";

const HOSTILE = '</script><img onerror=alert(1)> "quoted" \\ \u0000\u001f 😀 \ud800';
const PARTS: Parts = {
  spans: [
    { track: 0, depth: 0, start: 1_234_567, duration: 1_001, label: 0, detail: 1, step: 3 },
    { track: 1, depth: 0, start: 1_240_000, duration: 0, label: 1 },
    { track: 2, depth: 0, start: 9_007_199_254_740, duration: 5, label: 1 },
  ],
  labels: [[HOSTILE, "op", "forward", "conv"], ["kernel", "kernel"]],
  details: [{}, { shapes: "[[1, 2]]", module: HOSTILE, flops: 5 }],
  tracks: [{ pid: 4, tid: 5 }, { kind: "device_stream", device: "cuda:0", pid: 0, tid: 7 }, { pid: 4, tid: 5, name: HOSTILE }],
  links: [{ kind: "launch", from: 0, to: 1 }],
  firstStep: 3,
  memory: [{ device: "cuda:0", points: [[1_000_001, 5, NaN], [2_000_000, 6, 9]] }],
  counters: [{ name: "cpu_percent", unit: "percent", time_ns: [1_500_000], value: [99.5] }],
};

type Event = Record<string, unknown> & { ph: string };

async function eventsOf(parts: Parts): Promise<Event[]> {
  const text = await (await chromeTrace(timelineOf(parts))).text();
  return (JSON.parse(text) as { traceEvents: Event[] }).traceEvents;
}

const of = (events: Event[], phase: string): Event[] => events.filter(({ ph }) => ph === phase);

test("spans keep every nanosecond, their names and what is known of them", async () => {
  const text = await (await chromeTrace(timelineOf(PARTS))).text();
  assert.ok(text.includes('"ts": 1234.567, "dur": 1.001'));
  assert.ok(text.includes('"ts": 9007199254.740, "dur": 0.005'));
  const [first] = of(await eventsOf(PARTS), "X");
  assert.equal(first.name, HOSTILE);
  assert.equal(first.cat, "op");
  assert.deepEqual(first.args, { step: 3, shapes: "[[1, 2]]", module: HOSTILE, flops: 5 });
});

test("no two tracks share a thread, and each has its name", async () => {
  const events = await eventsOf(PARTS);
  const places = of(events, "X").map(({ pid, tid }) => `${pid} ${tid}`);
  assert.equal(new Set(places).size, 3);
  const named = of(events, "M").filter(({ name }) => name === "thread_name");
  assert.deepEqual(named.map(({ pid, tid }) => `${pid} ${tid}`), places);
});

test("links, memory and counters are in it", async () => {
  const events = await eventsOf(PARTS);
  const [start] = of(events, "s");
  const [end] = of(events, "f");
  assert.equal(start.id, end.id);
  assert.deepEqual([start.ts, end.ts, end.bp], [1234.567, 1240, "e"]);
  const curves = of(events, "C").map(({ name, ts, args }) => [name, ts, args]);
  assert.deepEqual(curves, [
    ["Memory cuda:0", 1000.001, { allocated: 5 }],
    ["Memory cuda:0", 2000, { allocated: 6, reserved: 9 }],
    ["cpu_percent", 1500, { percent: 99.5 }],
  ]);
});

test("a timeline without spans is a trace", async () => {
  assert.deepEqual(of(await eventsOf({ spans: [], labels: [] }), "X"), []);
});

test("a large timeline is written in pieces, between which others get their turn", async () => {
  const t = timelineOf(largeParts(200_000));
  let longest = 0;
  let before = performance.now();
  const turns = setInterval(() => {
    longest = Math.max(longest, performance.now() - before);
    before = performance.now();
  });
  const blob = await chromeTrace(t);
  clearInterval(turns);
  assert.ok(blob.size > 10_000_000);
  assert.ok(longest < 1_000, `${longest} ms`);
});
