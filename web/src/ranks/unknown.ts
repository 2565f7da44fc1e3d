/** Where a table has no value: less than any, so that it is sorted behind them. */
export const UNKNOWN = -1;

export const unlessUnknown =
  (show: (value: number) => string) =>
  (value: number): string =>
    value < 0 ? "–" : show(value);
