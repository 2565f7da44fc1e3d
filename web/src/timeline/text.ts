/** Text on the canvas, cut to fit. Measuring is dear, so that each character is measured once. */

const FONT = "system-ui, sans-serif";
const ELLIPSIS = "…";

export const fontOf = (size: number, weight = 400): string => `${weight} ${size}px ${FONT}`;

const widths = new Map<string, number>();

function widthOf(context: CanvasRenderingContext2D, character: string): number {
  let width = widths.get(character);
  if (width === undefined) {
    width = context.measureText(character).width;
    if (widths.size < 5_000) widths.set(character, width);
  }
  return width;
}

/** As much of `text` as `room` pixels hold, in the font of 11 pixels; empty where that is next to nothing. */
export function fitted(context: CanvasRenderingContext2D, text: string, room: number): string {
  const ellipsis = widthOf(context, ELLIPSIS);
  let used = 0;
  let fits = 0; // characters that leave room for an ellipsis
  for (let i = 0; i < text.length; i++) {
    used += widthOf(context, text[i]);
    if (used + ellipsis <= room) fits = i + 1;
    if (used > room) return fits > 1 ? text.slice(0, fits) + ELLIPSIS : "";
  }
  return text;
}
