import assert from "node:assert/strict";
import test from "node:test";
import { count, counted, duration, fixed, percent, ratio, size } from "../src/units";

/** Every expected text is what `profkit.units` prints for the same value. */

const says = <Value>(words: (value: Value) => string, cases: [value: Value, text: string][]): void => {
  for (const [value, text] of cases) assert.equal(words(value), text);
};

test("a duration has three digits and the largest unit that leaves one before the point", () => {
  says(duration, [
    [0, "0 ms"],
    [1, "1 ns"],
    [1.5, "1.50 ns"],
    [999.4, "999 ns"],
    [999.5, "1.00 µs"],
    [1_000, "1 µs"],
    [33_196_083.25, "33.2 ms"],
    [9_994_000, "9.99 ms"],
    [9_995_000, "10.0 ms"],
    [99_950_000, "100 ms"],
    [999_499_999, "999 ms"],
    [999_500_000, "1.00 s"],
    [3_600e9, "3,600 s"],
    [-1_500_000, "-1.50 ms"],
  ]);
});

test("a size counts in powers of 1,024", () => {
  says(size, [
    [0, "0 B"],
    [1_023, "1.00 KiB"],
    [1_024, "1 KiB"],
    [1_536, "1.50 KiB"],
    [287_744, "281 KiB"],
    [2.52 * 2 ** 30, "2.52 GiB"],
    [5_000 * 2 ** 40, "5,000 TiB"],
  ]);
});

test("a share keeps two digits", () => {
  says(percent, [
    [0, "0 %"],
    [0.00005, "< 0.01 %"],
    [0.0001, "0.01 %"],
    [0.0094, "0.94 %"],
    [0.00995, "1.0 %"],
    [0.0994, "9.9 %"],
    [0.0995, "10 %"],
    [0.9289, "93 %"],
    [1, "100 %"],
  ]);
});

test("a factor", () =>
  says(ratio, [
    [1, "1.0×"],
    [1.72, "1.7×"],
    [9.949, "9.9×"],
    [9.95, "10×"],
    [23.4, "23×"],
  ]));

test("thousands are grouped, and not behind the point", () => {
  says(count, [
    [0, "0"],
    [999, "999"],
    [1_000, "1,000"],
    [1_234_567, "1,234,567"],
    [0.12345, "0.12345"],
  ]);
});

test("nouns have their plural", () => {
  assert.equal(counted(1, "step"), "1 step");
  assert.equal(counted(0, "step"), "0 steps");
  assert.equal(counted(1_200, "step"), "1,200 steps");
  assert.equal(counted(2, "batch"), "2 batches");
  assert.equal(counted(2, "loss"), "2 losses");
});

test("of two decimals that are equally near, the even one, as in Python", () => {
  const cases: [value: number, decimals: number, text: string][] = [
    [0.5, 0, "0"],
    [1.5, 0, "2"],
    [2.5, 0, "2"],
    [-2.5, 0, "-2"],
    [0.25, 1, "0.2"],
    [0.75, 1, "0.8"],
    [0.125, 2, "0.12"],
    [0.375, 2, "0.38"],
    [2.675, 2, "2.67"], // no tie: the double lies below
    [1.005, 2, "1.00"],
  ];
  for (const [value, decimals, text] of cases) assert.equal(fixed(value, decimals), text);
});
