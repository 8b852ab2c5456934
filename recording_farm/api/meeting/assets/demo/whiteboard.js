// A whiteboard that draws by itself, as if the participants took turns with the pen, and starts over when it is full.

import { curve, write } from "./handwriting.js";

const FPS = 15;
const PEN_SPEED = 240; // units of a block per second
const PEN_UP = 45; // units that lifting the pen counts for
const PAUSE = 2_500; // ms that the full board is left to be read
const BLOCK = { width: 160, height: 125 }; // every block is drawn in a box of this size
const COLORS = { ink: "#2a2f3d", blue: "#2f6fed", red: "#e0484f", green: "#1f9d61" };

// ── what is drawn ──

const words = (text, x, y, size) => write(text, x, y, size).map((points) => ({ points }));
const line = (...points) => ({ points });
const bent = (...corners) => ({ points: curve(corners) });
const circle = (x, y, r) => ({
  points: Array.from({ length: 25 }, (_, i) => [x + r * Math.sin(i * 0.262), y - r * Math.cos(i * 0.262)]),
});
const box = (x, y, w, h) => line([x, y], [x + w, y + 1], [x + w - 1, y + h], [x, y + h - 1], [x, y]);
const paper = (x, y, w, h, fill) => ({ points: [[x, y], [x + w, y], [x + w, y + h], [x, y + h]], fill });
const pen = (color, strokes, wide = 2.2) => strokes.map((stroke) => ({ color, wide, ...stroke }));

// One block each, in the order of drawing; `who` holds the pen.
const BLOCKS = [
  {
    who: "Ada 👩‍🚀",
    strokes: [
      ...pen("ink", words("hello", 22, 20, 36), 3.4),
      ...pen("ink", words("team", 48, 66, 26), 3),
      ...pen("red", [bent([18, 104], [40, 94], [60, 110], [84, 94], [108, 110], [140, 98])], 2.8),
    ],
  },
  {
    who: "Søren",
    strokes: [
      ...pen("blue", [box(8, 18, 52, 30), box(100, 18, 52, 30), box(54, 82, 52, 30)]),
      ...pen("ink", [
        ...words("page", 16, 23, 13),
        ...words("bot", 113, 25, 13),
        ...words("file", 67, 89, 13),
        bent([64, 32], [80, 26], [96, 32]),
        line([89, 26], [96, 32], [88, 37]),
        bent([126, 52], [126, 80], [110, 94]),
        line([119, 92], [110, 95], [113, 86]),
      ]),
    ],
  },
  {
    who: "李雷",
    strokes: [
      ...pen("ink", [
        line([18, 12], [16, 106], [150, 107]),
        line([13, 19], [18, 12], [22, 19]),
        line([143, 102], [150, 107], [143, 112]),
      ]),
      ...pen("green", [bent([18, 98], [42, 92], [52, 60], [74, 84], [96, 78], [106, 36], [142, 24])], 3),
      ...pen("ink", words("fun", 40, 22, 15)),
      ...pen("ink", words("time", 104, 86, 12), 1.8),
    ],
  },
  {
    who: "ゆき 🎧",
    strokes: [20, 54, 88].flatMap((y, i) => [
      ...pen("ink", [box(18, y, 20, 20)]),
      ...pen("ink", words(["picture", "sound", "in sync"][i], 50, y + 1, 17)),
      ...pen("green", [line([21, y + 10], [28, y + 17], [43, y - 5])], 3.2),
    ]),
  },
  {
    who: "Ada 👩‍🚀",
    strokes: [
      ...pen("ink", [paper(28, 8, 106, 106, "#ffe27a")]),
      ...pen("ink", words("record", 40, 24, 20), 2.6),
      ...pen("ink", words("it all", 54, 58, 20), 2.6),
      ...pen("red", [bent([56, 96], [70, 100], [90, 92], [108, 98])], 2.6),
    ],
  },
  {
    who: "ゆき 🎧",
    strokes: [
      ...pen("blue", [circle(80, 60, 44)], 3),
      ...pen("ink", [line([66, 44], [66, 54]), line([94, 44], [94, 54])], 4),
      ...pen("red", [bent([54, 68], [62, 92], [98, 92], [106, 68])], 3),
      ...pen("green", [
        bent([14, 22], [22, 8], [30, 24], [18, 30], [10, 18], [30, 14]),
        bent([132, 102], [140, 90], [148, 106], [136, 112], [128, 98], [148, 96]),
      ]),
    ],
  },
];

// ── the script: every stroke with the moment its drawing begins and ends, in units of the pen's way ──

let way = 0;
const SCRIPT = BLOCKS.flatMap(({ who, strokes }, block) =>
  strokes.map((stroke) => {
    const from = way + PEN_UP;
    const marks = [0]; // the way to each point
    stroke.points.slice(1).forEach(([x, y], i) => {
      marks.push(marks[i] + Math.hypot(x - stroke.points[i][0], y - stroke.points[i][1]));
    });
    way = from + marks.at(-1);
    return { ...stroke, who, block, from, to: way, marks };
  }),
);
const TOTAL = way;

// ── drawing ──

const canvas = document.getElementById("board");
const cursor = document.getElementById("cursor");
const who = document.getElementById("who");
const c = canvas.getContext("2d", { alpha: false });
let began = performance.now();
let drawn = 0; // how far the pen had come at the last tick
let cells = { columns: 1, width: 1, height: 1, scale: 1 };

function fit() {
  const ratio = devicePixelRatio;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  // As many columns as make the blocks largest.
  const count = BLOCKS.length;
  const options = [1, 2, 3, 6].map((columns) => {
    const cell = { columns, width: width / columns, height: height / (count / columns) };
    return { ...cell, scale: Math.min(cell.width / BLOCK.width, cell.height / BLOCK.height) };
  });
  cells = options.reduce((best, option) => (option.scale > best.scale ? option : best));
  clear();
  draw(0, drawn);
}

function clear() {
  const { clientWidth: width, clientHeight: height } = canvas;
  c.fillStyle = "#fbfaf6";
  c.fillRect(0, 0, width, height);
  c.fillStyle = "#dedbd0";
  const step = Math.max(6, 24 * cells.scale);
  for (let y = step / 2; y < height; y += step) {
    for (let x = step / 2; x < width; x += step) {
      c.fillRect(x, y, 1.3, 1.3);
    }
  }
}

// Where a block's point lies on the board.
function place(block, [x, y]) {
  const { columns, width, height, scale } = cells;
  return [
    ((block % columns) + 0.5) * width + (x - BLOCK.width / 2) * scale,
    (Math.floor(block / columns) + 0.5) * height + (y - BLOCK.height / 2) * scale,
  ];
}

// Adds what the pen draws between two moments of its way.
function draw(from, to) {
  let tip = null;
  for (const stroke of SCRIPT) {
    if (stroke.to < from || stroke.from > to) {
      continue;
    }
    const { points, marks, block, fill } = stroke;
    tip = { stroke, at: place(block, pointAt(stroke, to - stroke.from)) };
    c.beginPath();
    if (fill) {
      points.forEach((point) => c.lineTo(...place(block, point)));
      c.fillStyle = fill;
      c.fill();
      continue;
    }
    c.moveTo(...place(block, pointAt(stroke, from - stroke.from)));
    points.forEach((point, i) => {
      if (marks[i] > from - stroke.from && marks[i] < to - stroke.from) {
        c.lineTo(...place(block, point));
      }
    });
    c.lineTo(...tip.at);
    c.strokeStyle = COLORS[stroke.color];
    c.lineWidth = Math.max(0.8, stroke.wide * cells.scale);
    c.lineCap = "round";
    c.lineJoin = "round";
    c.stroke();
  }
  if (tip !== null) {
    moveCursor(tip);
  }
}

function pointAt({ points, marks }, distance) {
  const next = marks.findIndex((mark) => mark >= distance);
  if (next <= 0) {
    return next === 0 ? points[0] : points.at(-1);
  }
  const share = (distance - marks[next - 1]) / (marks[next] - marks[next - 1]);
  return [0, 1].map((axis) => points[next - 1][axis] + share * (points[next][axis] - points[next - 1][axis]));
}

function moveCursor({ stroke, at: [x, y] }) {
  cursor.style.transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
  cursor.style.setProperty("--pen", COLORS[stroke.color]);
  cursor.classList.toggle("flip", x > canvas.clientWidth * 0.75); // the name stays on the board
  if (who.textContent !== stroke.who) {
    who.textContent = stroke.who;
  }
}

function tick() {
  const now = performance.now();
  const to = ((now - began) / 1000) * PEN_SPEED;
  if (to > TOTAL + (PAUSE / 1000) * PEN_SPEED) {
    began = now;
    drawn = 0;
    clear();
    return;
  }
  if (drawn < TOTAL) {
    draw(drawn, Math.min(to, TOTAL));
  }
  drawn = to;
}

new ResizeObserver(fit).observe(canvas);
fit();
setInterval(tick, 1000 / FPS);
