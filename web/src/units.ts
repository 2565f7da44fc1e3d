/**
 * Numbers in words: three significant digits, the unit always beside them. The words are those of `profkit.units`, so
 * that page and terminal print the same.
 */

type Units = [scale: number, unit: string][];

const TIMES: Units = [
  [1, "ns"],
  [1e3, "µs"],
  [1e6, "ms"],
  [1e9, "s"],
];
const SIZES: Units = [
  [1, "B"],
  [2 ** 10, "KiB"],
  [2 ** 20, "MiB"],
  [2 ** 30, "GiB"],
  [2 ** 40, "TiB"],
];

/** Nanoseconds as `33.2 ms`. */
export const duration = (time: number): string => (time === 0 ? "0 ms" : scaled(time, TIMES));

/** Bytes as `2.52 GiB`. */
export const size = (bytes: number): string => scaled(bytes, SIZES);

/** A share of one as `43 %`, `4.0 %` or `0.02 %`. */
export function percent(share: number): string {
  if (share > 0 && share < 0.0001) return "< 0.01 %";
  const decimals = share >= 0.0995 || share === 0 ? 0 : share >= 0.00995 ? 1 : 2;
  return `${fixed(100 * share, decimals)} %`;
}

/** A factor as `1.7×`. */
export const ratio = (value: number): string => `${fixed(value, value < 9.95 ? 1 : 0)}×`;

/** `1,200`. */
export const count = (value: number): string => grouped(`${value}`);

/** `1 step`, `1,200 steps`, `2 batches`. */
export function counted(value: number, noun: string): string {
  const plural = /(s|ch)$/.test(noun) ? `${noun}es` : `${noun}s`;
  return `${count(value)} ${value === 1 ? noun : plural}`;
}

/** `value` in the largest unit that leaves at least one before the point. */
function scaled(value: number, units: Units): string {
  const [scale, unit] = units.find(([scale]) => Math.abs(value) < 999.5 * scale) ?? units.at(-1)!;
  return `${threeDigits(value / scale)} ${unit}`;
}

function threeDigits(value: number): string {
  const magnitude = Math.abs(value);
  const decimals = magnitude >= 99.95 || Number.isInteger(value) ? 0 : magnitude >= 9.995 ? 1 : 2;
  return grouped(fixed(value, decimals));
}

/**
 * The decimal nearest to the double, as in Python: of two that are equally near, the one with an even last digit.
 * `toFixed` takes the larger one there. Such a tie ends in binary too, so that multiplying it is exact.
 */
export function fixed(value: number, decimals: number): string {
  const digits = value * 10 ** decimals;
  const isTie = Number.isInteger(value * 2 ** (decimals + 1)) && Math.abs(digits % 1) === 0.5;
  if (!isTie) return value.toFixed(decimals);
  return ((2 * Math.round(digits / 2)) / 10 ** decimals).toFixed(decimals);
}

export const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);

const grouped = (digits: string): string => digits.replace(/\B(?<!\.\d*)(?=(\d{3})+(?!\d))/g, ",");
