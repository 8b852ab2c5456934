// A pen's view of the alphabet: each letter is the strokes a hand makes, not an outline.
//
// A point is two digits, x (0 to 5) and y in hex: 0 is the top of tall letters, 3 the top of small ones, 8 the line they
// stand on, b the bottom of tails. Points are corners of a curve that only comes near them; a doubled point is sharp.

const LETTERS = {
  a: "44 23 05 07 18 28 46, 43 47 58",
  b: "00 08, 05 23 34 46 37 18 07",
  c: "44 23 04 07 18 28 47",
  d: "44 23 05 07 18 28 46, 40 47 58",
  e: "06 36 45 23 04 07 18 38 47",
  f: "41 30 21 22 28, 04 34",
  g: "44 23 05 07 18 28 46, 43 49 3b 1b 0a",
  h: "00 08, 05 23 34 38",
  i: "13 18, 10 20",
  j: "23 29 1b 0b, 20 30",
  k: "00 08, 33 06 06 38",
  l: "10 17 28",
  m: "03 08, 05 13 24 28, 25 33 44 48",
  n: "03 08, 05 23 34 38",
  o: "23 04 06 28 46 44 23 13",
  p: "03 0b, 05 23 34 46 28 07",
  q: "44 23 05 07 18 28 46, 43 4b",
  r: "03 08, 05 23 34",
  s: "34 13 04 25 36 28 07",
  t: "10 17 28 37, 03 33",
  u: "03 06 18 28 45, 43 47 58",
  v: "03 28 28 43",
  w: "03 18 18 24 24 38 38 53",
  x: "03 48, 43 08",
  y: "03 06 18 28 45, 43 49 3b 1b 0a",
  z: "03 33 33 08 08 38",
};

// The strokes of `text`, its letters `size` high (top of tall letters to the line), from (x, y) at the top left.
export function write(text, x, y, size) {
  const unit = size / 8;
  const strokes = [];
  let at = 0;
  for (const letter of text) {
    if (!(letter in LETTERS)) {
      at += 3;
      continue;
    }
    const rise = 0.35 * Math.sin(at * 1.7); // no hand keeps to the line
    let width = 0;
    for (const stroke of LETTERS[letter].split(", ")) {
      const corners = stroke.split(" ").map(([column, row]) => {
        const [px, py] = [Number(column), Number.parseInt(row, 16)];
        width = Math.max(width, px);
        return [x + (at + px + 0.12 * (8 - py)) * unit, y + (py + rise) * unit]; // leaning forward a little
      });
      strokes.push(curve(corners));
    }
    at += width + 1.6;
  }
  return strokes;
}

// A smooth line near the corners, as many short steps.
export function curve(corners) {
  if (corners.length < 3) {
    return corners;
  }
  const middle = ([ax, ay], [bx, by]) => [(ax + bx) / 2, (ay + by) / 2];
  const points = [corners[0]];
  for (let i = 1; i < corners.length - 1; i += 1) {
    const from = i === 1 ? corners[0] : middle(corners[i - 1], corners[i]);
    const to = i === corners.length - 2 ? corners[i + 1] : middle(corners[i], corners[i + 1]);
    for (let step = 1; step <= 6; step += 1) {
      const s = step / 6;
      const bend = (axis) =>
        (1 - s) ** 2 * from[axis] + 2 * s * (1 - s) * corners[i][axis] + s ** 2 * to[axis];
      points.push([bend(0), bend(1)]);
    }
  }
  return points;
}
