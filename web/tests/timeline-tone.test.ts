import assert from "node:assert/strict";
import test from "node:test";
import { dark, light } from "../src/palette";
import { contrast, rgb, shade, toneOf } from "../src/timeline/tone";

test("a span's tone follows from kind, phase and class", () => {
  assert.equal(toneOf("op", "forward", "conv"), "forward");
  assert.equal(toneOf("kernel", "backward", null), "backward");
  assert.equal(toneOf("op", "optimizer", "elementwise"), "optimizer");
  assert.equal(toneOf("op", "data", null), "data_wait");
  assert.equal(toneOf("kernel", null, "matmul"), "compute");
  assert.equal(toneOf("memcpy", "forward", "copy"), "copy");
  assert.equal(toneOf("memset", null, null), "copy");
  assert.equal(toneOf("collective", "backward", "communication"), "communication");
  assert.equal(toneOf("op", "backward", "communication"), "communication");
  assert.equal(toneOf("data_wait", null, null), "data_wait");
  assert.equal(toneOf("data_work", "data", null), "data_wait");
  for (const kind of ["runtime", "sync"]) assert.equal(toneOf(kind, "forward", null), "runtime");
  for (const kind of ["python", "module", "annotation", "gc", "compile", "a later word"]) {
    assert.equal(toneOf(kind, "forward", null), "host");
  }
  assert.equal(toneOf("step", null, null), "step");
});

test("names stay readable on every shade of every tone", () => {
  for (const palette of [light, dark]) {
    for (const [tone, color] of Object.entries(palette.tones)) {
      if (contrast(rgb(color), rgb(palette.ink)) < 4.5) continue; // palette.test.ts has the tones themselves
      for (let i = 0; i < 50; i++) {
        const found = contrast(shade(color, `name ${i}`, palette.ink), rgb(palette.ink));
        assert.ok(found >= 4.5, `${tone}: ${found}`);
      }
    }
  }
});

test("names of one tone differ in shade", () => {
  const shades = new Set(Array.from({ length: 50 }, (_, i) => shade(light.tones.forward, `name ${i}`, light.ink).join()));
  assert.ok(shades.size >= 3);
});
