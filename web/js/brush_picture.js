/** Drawing one time of a painting: the frame under it, the grid, what is painted, the cursor. */

const TINT = "rgba(255, 150, 30, 0.42)";
const EDGE = "rgb(255, 150, 30)";
const LINE = "rgba(255, 255, 255, 0.2)";
const PLAIN = "#2b2f36";

/** `sheet` is an image of all times one below the other, or null; `cursor` a patch or null. */
export function drawPainting(canvas, painting, time, sheet, cursor) {
  const { t, h, w, cells } = painting;
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const here = cells.subarray(time * h * w, (time + 1) * h * w);
  const box = (patch) => {
    const [x, y] = [patch % w, Math.floor(patch / w)];
    return [(x * width) / w, (y * height) / h, width / w, height / h];
  };
  context.fillStyle = PLAIN;
  context.fillRect(0, 0, width, height);
  if (sheet?.complete && sheet.naturalHeight) {
    const tall = sheet.naturalHeight / t;
    context.imageSmoothingQuality = "high";
    context.drawImage(sheet, 0, time * tall, sheet.naturalWidth, tall, 0, 0, width, height);
  }
  context.fillStyle = TINT;
  here.forEach((on, patch) => on && context.fillRect(...box(patch)));
  gridLines(context, w, h, width, height);
  outline(context, here, w, h, box);
  if (cursor !== null) {
    context.strokeStyle = "white";
    context.lineWidth = 3;
    const [x, y, wide, tall] = box(cursor);
    context.strokeRect(x + 1.5, y + 1.5, wide - 3, tall - 3);
  }
}

function gridLines(context, w, h, width, height) {
  context.fillStyle = LINE;
  for (let x = 1; x < w; x++) context.fillRect(Math.round((x * width) / w), 0, 1, height);
  for (let y = 1; y < h; y++) context.fillRect(0, Math.round((y * height) / h), width, 1);
}

/** A bold line where painted patches meet others or the frame's edge. */
function outline(context, here, w, h, box) {
  const painted = (x, y) => x >= 0 && y >= 0 && x < w && y < h && here[y * w + x] === 1;
  context.strokeStyle = EDGE;
  context.lineWidth = 3;
  context.beginPath();
  here.forEach((on, patch) => {
    if (!on) return;
    const [x, y] = [patch % w, Math.floor(patch / w)];
    const [left, top, wide, tall] = box(patch);
    const sides = [
      [x, y - 1, left, top, left + wide, top],
      [x, y + 1, left, top + tall, left + wide, top + tall],
      [x - 1, y, left, top, left, top + tall],
      [x + 1, y, left + wide, top, left + wide, top + tall],
    ];
    for (const [nextX, nextY, x1, y1, x2, y2] of sides) {
      if (painted(nextX, nextY)) continue;
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
    }
  });
  context.stroke();
}
