// Positions: pure functions from numbers to rectangles { left, top, width, height } in whole pixels.

const WIDEST = 16 / 9;
const NARROWEST = 4 / 3; // a face in a narrower tile would lose its ears
const STRIP = 0.22; // fraction of the longer side for the small tiles beside something large

// Equal tiles, as large as possible, in centered rows; the last row may have fewer.
export function grid(count, area, gap) {
  const shapes = Array.from({ length: count }, (_, i) => shape(count, i + 1, area, gap));
  const { columns, rows, width, height } = shapes.reduce((best, next) =>
    next.width * next.height > best.width * best.height ? next : best,
  );
  const top = area.top + Math.floor((area.height - rows * height - (rows - 1) * gap) / 2);
  return Array.from({ length: count }, (_, i) => {
    const row = Math.floor(i / columns);
    const inRow = Math.min(columns, count - row * columns);
    const left = area.left + Math.floor((area.width - inRow * width - (inRow - 1) * gap) / 2);
    return { left: left + (i % columns) * (width + gap), top: top + row * (height + gap), width, height };
  });
}

function shape(count, columns, area, gap) {
  const rows = Math.ceil(count / columns);
  const cell = {
    width: Math.floor((area.width - (columns - 1) * gap) / columns),
    height: Math.floor((area.height - (rows - 1) * gap) / rows),
  };
  return {
    columns,
    rows,
    width: Math.max(1, Math.min(cell.width, Math.floor(cell.height * WIDEST))),
    height: Math.max(1, Math.min(cell.height, Math.floor(cell.width / NARROWEST))),
  };
}

// Something large (`main`), and `count` small tiles beside it, or below it where the page is taller than wide.
export function focus(count, area, gap) {
  if (count === 0) {
    return { main: area, tiles: [] };
  }
  const upright = area.height > area.width;
  const long = upright ? area.height : area.width;
  const strip = Math.floor(long * STRIP);
  const rest = long - strip - gap;
  const main = upright ? { ...area, height: rest } : { ...area, width: rest };
  const side = upright
    ? { ...area, top: area.top + rest + gap, height: strip }
    : { ...area, left: area.left + rest + gap, width: strip };
  return { main, tiles: grid(count, side, gap) };
}
