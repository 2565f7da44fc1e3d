import type { Palette, Tone } from "../palette";
import type { Timeline } from "./format";
import { labelWord } from "./spans";

const TONE_OF_KIND: Record<string, Tone> = {
  step: "step",
  memcpy: "copy",
  memset: "copy",
  collective: "communication",
  data_wait: "data_wait",
  data_work: "data_wait",
  runtime: "runtime",
  sync: "runtime",
};
const TONE_OF_PHASE: Record<string, Tone> = {
  data: "data_wait",
  forward: "forward",
  backward: "backward",
  optimizer: "optimizer",
};

/** What a span is coloured by. */
export function toneOf(kind: string | null, phase: string | null, opClass: string | null): Tone {
  if (opClass === "communication") return "communication";
  if (kind === "op" || kind === "kernel") return TONE_OF_PHASE[phase ?? ""] ?? "compute";
  return TONE_OF_KIND[kind ?? ""] ?? "host";
}

export const toneOfLabel = (t: Timeline, label: number): Tone =>
  toneOf(labelWord(t, label, "kind"), labelWord(t, label, "phase"), labelWord(t, label, "op_class"));

type Rgb = [red: number, green: number, blue: number];

export function rgb(color: string): Rgb {
  const hex = color.slice(1).replace(/^(.)(.)(.)$/, "$1$1$2$2$3$3");
  const value = parseInt(hex, 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

const toward = (color: Rgb, target: Rgb, share: number): Rgb =>
  color.map((part, i) => Math.round(part + (target[i] - part) * share)) as Rgb;

/** Relative luminance, 0 to 1 (WCAG 2.2). */
function luminance(color: Rgb): number {
  const [red, green, blue] = color.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Contrast of two colours, 1 to 21 (WCAG 2.2). */
export function contrast(one: Rgb, other: Rgb): number {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

const WHITE: Rgb = [255, 255, 255];
const BLACK: Rgb = [0, 0, 0];
const READABLE = 4.5;
const SHADES = [0, 0.07, 0.14, -0.07, -0.14]; // towards white, or black

/** The tone a little lighter or darker by the name, so that neighbours differ and `ink` stays readable on it. */
export function shade(tone: string, name: string, ink: string): Rgb {
  const share = SHADES[hash(name) % SHADES.length];
  const color = toward(rgb(tone), share > 0 ? WHITE : BLACK, Math.abs(share));
  if (contrast(color, rgb(ink)) >= READABLE) return color;
  return toward(rgb(tone), luminance(rgb(ink)) > 0.4 ? BLACK : WHITE, Math.abs(share));
}

function hash(name: string): number {
  let value = 2166136261;
  for (let i = 0; i < name.length && i < 200; i++) value = Math.imul(value ^ name.charCodeAt(i), 16777619) >>> 0;
  return value;
}

const pixel = ([red, green, blue]: Rgb): number => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

/** A colour as a pixel of an ImageData, little-endian. */
export const pixelOf = (color: string): number => pixel(rgb(color));

/** Colours of the labels. */
export interface Colours {
  pixel: Uint32Array;
  css: string[];
}

export function coloursOf(t: Timeline, palette: Palette): Colours {
  const shades = t.labels.name.map((name, label) =>
    shade(palette.tones[toneOfLabel(t, label)], t.words[name] ?? "", palette.ink),
  );
  return { pixel: Uint32Array.from(shades, pixel), css: shades.map((color) => `rgb(${color.join()})`) };
}
