import assert from "node:assert/strict";
import test from "node:test";
import { KINDS } from "../src/loading/kinds";
import { dark, light, type Palette, type Tone } from "../src/palette";

/**
 * What the colours must keep to. Contrast: WCAG 2.2, 1.4.3 (text, 4.5:1) and 1.4.11 (areas, 3:1). Distance: CIEDE2000,
 * seen with each kind of colour vision.
 *
 * DISTANCE: two patches side by side are told apart from about 1 on, and half of all people see 2.3 (Mahy et al. 1994).
 * A bar and the entry of its legend are neither side by side nor large, which costs a factor of three to four for marks
 * of a few pixels (Szafir 2018): 10 leaves room. Order, gaps, patterns and names tell them apart as well.
 */
const DISTANCE = 10;

type Triple = [number, number, number];

/** Machado, Oliveira & Fernandes 2009, severity 1.0, for linear RGB. */
const VISIONS: Record<string, Triple[]> = {
  "normal vision": [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protanopia: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deuteranopia: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritanopia: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};

/** sRGB to XYZ of the white point D65, over that white point. */
const XYZ: Triple[] = [
  [0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047],
  [0.2126729, 0.7151522, 0.072175],
  [0.0193339 / 1.08883, 0.119192 / 1.08883, 0.9503041 / 1.08883],
];

const times = (matrix: Triple[], [x, y, z]: Triple): Triple =>
  matrix.map(([a, b, c]) => a * x + b * y + c * z) as Triple;

function linear(color: string): Triple {
  const parts = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16) / 255);
  return parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)) as Triple;
}

function contrast(one: string, other: string): number {
  const [low, high] = [one, other].map((color) => times(XYZ, linear(color))[1]).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** CIE L*a*b* as somebody with that vision sees the colour. */
function seen(color: string, vision: Triple[]): Triple {
  const shown = times(vision, linear(color)).map((part) => Math.min(Math.max(part, 0), 1)) as Triple;
  const [x, y, z] = times(XYZ, shown).map((part) =>
    part > 216 / 24389 ? Math.cbrt(part) : ((24389 / 27) * part + 16) / 116,
  );
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}

const radians = (degrees: number): number => (degrees * Math.PI) / 180;
const cosine = (degrees: number): number => Math.cos(radians(degrees));

/** CIEDE2000 (Sharma, Wu & Dalal 2005). */
function distance([l1, a1, b1]: Triple, [l2, a2, b2]: Triple): number {
  const chroma = (Math.hypot(a1, b1) + Math.hypot(a2, b2)) / 2;
  const stretch = 1.5 - 0.5 * Math.sqrt(chroma ** 7 / (chroma ** 7 + 25 ** 7));
  const [c1, c2] = [Math.hypot(a1 * stretch, b1), Math.hypot(a2 * stretch, b2)];
  const [h1, h2] = [
    [a1, b1],
    [a2, b2],
  ].map(([a, b]) => (Math.atan2(b, a * stretch) * 180) / Math.PI);
  const turn = ((((h2 - h1 + 180) % 360) + 360) % 360) - 180;
  const [l, c, h] = [(l1 + l2) / 2, (c1 + c2) / 2, h1 + turn / 2];
  const t = 1 - 0.17 * cosine(h - 30) + 0.24 * cosine(2 * h) + 0.32 * cosine(3 * h + 6) - 0.2 * cosine(4 * h - 63);
  const lightness = (l2 - l1) / (1 + (0.015 * (l - 50) ** 2) / Math.sqrt(20 + (l - 50) ** 2));
  const colour = (c2 - c1) / (1 + 0.045 * c);
  const hue = (2 * Math.sqrt(c1 * c2) * Math.sin(radians(turn / 2))) / (1 + 0.015 * c * t);
  const blue = 30 * Math.exp(-((((((h % 360) + 360) % 360) - 275) / 25) ** 2));
  const rotation = -2 * Math.sqrt(c ** 7 / (c ** 7 + 25 ** 7)) * Math.sin(radians(2 * blue));
  return Math.sqrt(lightness ** 2 + colour ** 2 + hue ** 2 + rotation * colour * hue);
}

/** What stands side by side in one bar. */
const STACKS: Tone[][] = [
  ["data_wait", "compute", "communication", "copy", "runtime", "host", "unattributed"],
  ["data_wait", "forward", "backward", "optimizer"],
  Object.values(KINDS).map(([tone]) => tone),
  ["data_wait", "compute", "host"], // a worker's fetches, and the waits above them
];

const pairsOf = (tones: Tone[]): [Tone, Tone][] =>
  tones.flatMap((one, at) => tones.slice(at + 1).map((other): [Tone, Tone] => [one, other]));

test("the distance is that of the paper's table", () => {
  assert.ok(Math.abs(distance([50, 2.6772, -79.7751], [50, 0, -82.7485]) - 2.0425) < 1e-4);
  assert.ok(Math.abs(distance([60.2574, -34.0099, 36.2677], [60.4626, -34.1751, 39.4387]) - 1.2644) < 1e-4);
  assert.ok(Math.abs(distance([22.7233, 20.0904, -46.694], [23.0331, 14.973, -42.5619]) - 2.0373) < 1e-4);
  assert.ok(Math.abs(distance([50, -1, 2], [50, 0, 0]) - 2.3669) < 1e-4);
});

for (const palette of [light, dark]) {
  const theme = palette.dark ? "dark" : "light";

  test(`${theme}: areas are seen on cards`, () => {
    for (const [tone, color] of Object.entries(palette.tones)) {
      assert.ok(contrast(color, palette.card) >= 3, `${tone}: ${contrast(color, palette.card)}`);
    }
    assert.ok(contrast(palette.accent, palette.card) >= 3);
  });

  test(`${theme}: text is read where it stands`, () => {
    for (const [text, ground] of textsOf(palette)) {
      assert.ok(contrast(text, ground) >= 4.5, `${text} on ${ground}: ${contrast(text, ground)}`);
    }
  });

  for (const [name, vision] of Object.entries(VISIONS)) {
    test(`${theme}: what stands side by side is told apart with ${name}`, () => {
      for (const [one, other] of STACKS.flatMap(pairsOf)) {
        const apart = distance(seen(palette.tones[one], vision), seen(palette.tones[other], vision));
        assert.ok(apart >= DISTANCE, `${one} and ${other}: ${apart}`);
      }
    });
  }
}

const textsOf = ({ text, muted, accent, page, card, ink, tones }: Palette): [text: string, ground: string][] => [
  ...[text, muted, accent].flatMap((color): [string, string][] => [
    [color, card],
    [color, page],
  ]),
  [card, text], // tooltips
  [card, accent], // pressed buttons
  ...Object.values(tones).map((tone): [string, string] => [ink, tone]),
];
