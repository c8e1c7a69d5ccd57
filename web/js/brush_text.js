/**
 * Painted patches as the text that models/brush.py reads: `5x4x4 0:5-6,9 2:0-15` is a grid of 5
 * times, 4 rows and 4 columns with patches 5, 6 and 9 of time 0 and the first sixteen of time 2.
 *
 * Times and patches rise: what does not is no painting, as there.
 *
 * A painting is `{t, h, w, cells}`: cells is a Uint8Array, time by time and row by row, 1 = painted.
 */

const HEADER = /^(\d{1,6})x(\d{1,6})x(\d{1,6})$/;
const ROW = /^(\d{1,6}):(\d{1,9}(?:-\d{1,9})?(?:,\d{1,9}(?:-\d{1,9})?)*)$/;
const LARGEST = 2 ** 22; // patches: a larger grid is no video that anybody can paint,
const WIDEST = 2 ** 18; // nor one with more in a frame, which would take seconds to draw

export function blank({ t, h, w }) {
  return { t, h, w, cells: new Uint8Array(t * h * w) };
}

/** The painting of a text; null for an empty text or one that is none. */
export function readBrush(text) {
  const [head = "", ...rows] = text.trim().split(/\s+/);
  const [, t, h, w] = (HEADER.exec(head) ?? []).map(Number);
  if (!(t * h * w > 0 && t * h * w <= LARGEST && h * w <= WIDEST)) return null;
  const painting = blank({ t, h, w });
  let before = -1;
  for (const row of rows) {
    const [, time, spans] = ROW.exec(row) ?? [];
    if (!(before < time && time < t)) return null;
    before = Number(time);
    let reached = -1;
    for (const span of spans.split(",")) {
      const [first, last = first] = span.split("-").map(Number);
      if (!(reached < first && first <= last && last < h * w)) return null;
      reached = last;
      painting.cells.fill(1, time * h * w + first, time * h * w + last + 1);
    }
  }
  return painting;
}

/** The text of a painting; empty where nothing is painted. */
export function writeBrush({ t, h, w, cells }) {
  const rows = [];
  for (let time = 0; time < t; time++) {
    const spans = spansOf(cells.subarray(time * h * w, (time + 1) * h * w));
    if (spans.length) rows.push(`${time}:${spans.join(",")}`);
  }
  return rows.length ? `${t}x${h}x${w} ${rows.join(" ")}` : "";
}

function spansOf(cells) {
  const spans = [];
  for (let first = cells.indexOf(1); first >= 0; ) {
    const end = cells.indexOf(0, first);
    const last = (end < 0 ? cells.length : end) - 1;
    spans.push(last > first ? `${first}-${last}` : `${first}`);
    first = cells.indexOf(1, last + 1);
  }
  return spans;
}
