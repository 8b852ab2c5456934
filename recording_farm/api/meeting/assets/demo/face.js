// Draws one participant: a moving background and a figure that sways, blinks and talks.
// Coordinates are those of a picture 320 wide and 180 high, whatever the canvas really has.

const TAU = 2 * Math.PI;

export function drawFace(c, { width, height }, person, t, mouth) {
  c.setTransform(width / 320, 0, 0, height / 180, 0, 0);
  drawBackground(c, person.colors, t);

  // Three slow waves that never line up look alive; talking adds a nod.
  const sway = 5 * Math.sin(t * 0.9) + 2 * Math.sin(t * 2.3);
  const nod = 1.6 * Math.sin(t * 1.3) + 2.5 * mouth;
  const tilt = 0.05 * Math.sin(t * 0.7) + 0.035 * Math.sin(t * 1.9);

  drawBody(c, person, sway * 0.35);
  c.translate(160 + sway, 84 + nod);
  c.rotate(tilt);
  LOOKS[person.look].behind(c);
  drawHead(c, person.skin, t, mouth);
  LOOKS[person.look].front(c, t);
  drawMouth(c, mouth); // last: it has to lie on the beard
}

const washes = new Map(); // by color: a gradient costs far more to compute than to copy

function drawBackground(c, [dark, light], t) {
  if (!washes.has(dark)) {
    const wash = new OffscreenCanvas(c.canvas.width, c.canvas.height);
    const w = wash.getContext("2d", { alpha: false, willReadFrequently: true });
    const gradient = w.createLinearGradient(0, 0, wash.width, wash.height);
    gradient.addColorStop(0, dark);
    gradient.addColorStop(1, light);
    w.fillStyle = gradient;
    w.fillRect(0, 0, wash.width, wash.height);
    washes.set(dark, wash);
  }
  c.drawImage(washes.get(dark), 0, 0, 320, 180);
  c.fillStyle = "#fff";
  for (let i = 0; i < 5; i += 1) {
    c.globalAlpha = 0.07 + 0.012 * i;
    const x = ((i * 83 + t * (7 + 3 * i)) % 400) - 40;
    disc(c, x, 40 + 26 * i + 14 * Math.sin(t * 0.6 + i * 2), 18 + 9 * ((i * 3) % 5));
  }
  c.globalAlpha = 1;
}

function drawBody(c, person, shift) {
  const suit = SHIRTS[person.look];
  c.fillStyle = suit.main;
  c.beginPath();
  c.moveTo(66 + shift, 182);
  c.bezierCurveTo(70 + shift, 142, 112 + shift, 134, 160 + shift, 131);
  c.bezierCurveTo(208 + shift, 134, 250 + shift, 142, 254 + shift, 182);
  c.fill();
  // neck, with the chin's shadow on it
  c.fillStyle = shade(person.skin);
  c.beginPath();
  c.roundRect(145 + shift, 108, 30, 34, 13);
  c.fill();
  // collar
  c.strokeStyle = suit.trim;
  c.lineWidth = 6;
  c.beginPath();
  c.arc(160 + shift, 124, 23, 0.16 * Math.PI, 0.84 * Math.PI);
  c.stroke();
}

function drawHead(c, skin, t, mouth) {
  c.fillStyle = shade(skin);
  disc(c, -35, 5, 8);
  disc(c, 35, 5, 8);
  c.fillStyle = skin;
  oval(c, 0, 0, 35, 42);

  // eyes: a blink of 0.15 s every few seconds, and a glance that wanders
  const blink = t % 3.7 < 0.15 ? 0.12 : 1;
  const glance = 2 * Math.sin(t * 0.8) + Math.sin(t * 2.1);
  for (const side of [-1, 1]) {
    c.fillStyle = "#fff";
    oval(c, side * 14, -3, 6.6, 5.4 * blink);
    c.fillStyle = "#2a2230";
    oval(c, side * 14 + glance, -3, 3.3, 3.7 * blink);
  }
  // brows go up with the voice
  c.strokeStyle = "#3a2a26";
  c.lineWidth = 2.6;
  c.lineCap = "round";
  for (const side of [-1, 1]) {
    c.beginPath();
    c.moveTo(side * 8, -14 - 3 * mouth);
    c.quadraticCurveTo(side * 14, -18 - 4 * mouth, side * 21, -14 - 2 * mouth);
    c.stroke();
  }
  // nose
  c.strokeStyle = shade(skin);
  c.lineWidth = 2.4;
  c.beginPath();
  c.moveTo(-1, 2);
  c.quadraticCurveTo(5, 11, -2, 11);
  c.stroke();
}

function drawMouth(c, mouth) {
  const y = 24;
  if (mouth < 0.06) {
    c.strokeStyle = "#8f3b3b";
    c.lineWidth = 2.6;
    c.lineCap = "round";
    c.beginPath();
    c.arc(0, y - 7, 12, 0.24 * Math.PI, 0.76 * Math.PI);
    c.stroke();
    return;
  }
  const tall = 1.5 + 8.5 * mouth;
  const wide = 11 - 2.5 * mouth;
  c.save();
  c.beginPath();
  c.ellipse(0, y, wide, tall, 0, 0, TAU);
  c.clip();
  c.fillStyle = "#5f1822";
  c.fillRect(-20, y - 14, 40, 28);
  c.fillStyle = "#fff";
  c.fillRect(-20, y - tall - 1, 40, 3.6);
  c.fillStyle = "#d9596a";
  oval(c, 0, y + tall + 1, 7, 6);
  c.restore();
}

const SHIRTS = {
  astronaut: { main: "#eef0f6", trim: "#f0803c" },
  short: { main: "#22304a", trim: "#3d5580" },
  beard: { main: "#3c5a45", trim: "#587f63" },
  headphones: { main: "#fff3d6", trim: "#ffd67d" },
};

// What makes each one themselves: what lies behind the head and what lies in front of it.
const LOOKS = {
  astronaut: {
    behind(c) {
      c.fillStyle = "#eef0f6";
      disc(c, 0, -1, 62);
      c.fillStyle = "#20264f";
      disc(c, 0, -1, 53);
      c.fillStyle = "#f0803c";
      c.beginPath();
      c.roundRect(-67, -10, 10, 24, 4);
      c.roundRect(57, -10, 10, 24, 4);
      c.fill();
      c.fillStyle = "#3b211c";
      oval(c, 0, -6, 42, 44);
    },
    front(c) {
      c.fillStyle = "#3b211c";
      c.beginPath();
      c.moveTo(-37, -6);
      c.bezierCurveTo(-38, -60, 38, -60, 37, -6);
      c.bezierCurveTo(30, -26, 12, -30, -4, -30);
      c.bezierCurveTo(-20, -28, -32, -22, -37, -6);
      c.fill();
      // light on the visor
      c.strokeStyle = "rgb(255 255 255 / 45%)";
      c.lineWidth = 4;
      c.beginPath();
      c.arc(0, -1, 47, 1.12 * Math.PI, 1.36 * Math.PI);
      c.stroke();
    },
  },
  short: {
    behind() {},
    front(c) {
      c.fillStyle = "#17151a";
      c.beginPath();
      c.moveTo(-36, 0);
      c.bezierCurveTo(-45, -60, 45, -60, 36, 0);
      c.lineTo(33, -18);
      c.lineTo(22, -26);
      c.lineTo(12, -19);
      c.lineTo(2, -27);
      c.lineTo(-10, -19);
      c.lineTo(-20, -27);
      c.lineTo(-33, -17);
      c.fill();
    },
  },
  beard: {
    behind() {},
    front(c) {
      c.fillStyle = "#c98b3c";
      c.beginPath(); // hair
      c.moveTo(-37, -4);
      c.bezierCurveTo(-44, -46, -24, -54, 4, -51);
      c.bezierCurveTo(36, -50, 42, -30, 37, -4);
      c.bezierCurveTo(34, -22, 28, -28, 18, -31);
      c.bezierCurveTo(0, -26, -26, -34, -37, -4);
      c.fill();
      c.beginPath(); // beard, with room for the mouth
      c.moveTo(-36, 4);
      c.bezierCurveTo(-36, 62, 36, 62, 36, 4);
      c.bezierCurveTo(30, 20, 20, 13, 0, 14);
      c.bezierCurveTo(-20, 13, -30, 20, -36, 4);
      c.fill();
      c.strokeStyle = "#2b2b33"; // glasses
      c.lineWidth = 2.4;
      c.beginPath();
      c.roundRect(-25, -12, 21, 18, 7);
      c.roundRect(4, -12, 21, 18, 7);
      c.moveTo(-4, -4);
      c.lineTo(4, -4);
      c.stroke();
    },
  },
  headphones: {
    behind(c) {
      c.fillStyle = "#2b1d2c";
      c.beginPath();
      c.roundRect(-46, -46, 92, 104, [46, 46, 22, 22]);
      c.fill();
    },
    front(c, t) {
      c.fillStyle = "#2b1d2c"; // fringe
      c.beginPath();
      c.moveTo(-38, 4);
      c.bezierCurveTo(-46, -58, 46, -58, 38, 4);
      c.bezierCurveTo(37, -10, 35, -16, 32, -20);
      c.bezierCurveTo(14, -17, -14, -17, -32, -20);
      c.bezierCurveTo(-35, -16, -37, -10, -38, 4);
      c.fill();
      c.strokeStyle = "#f4f4fb";
      c.lineWidth = 6;
      c.beginPath();
      c.arc(0, 0, 49, 1.04 * Math.PI, 1.96 * Math.PI);
      c.stroke();
      c.fillStyle = "#f4f4fb";
      c.beginPath();
      c.roundRect(-55, -10, 17, 32, 8);
      c.roundRect(38, -10, 17, 32, 8);
      c.fill();
      c.fillStyle = t % 1 < 0.5 ? "#36d6c3" : "#1fa596"; // a light that keeps the beat
      disc(c, -47, 6, 4);
      disc(c, 47, 6, 4);
    },
  },
};

function disc(c, x, y, r) {
  c.beginPath();
  c.arc(x, y, r, 0, TAU);
  c.fill();
}

function oval(c, x, y, rx, ry) {
  c.beginPath();
  c.ellipse(x, y, rx, ry, 0, 0, TAU);
  c.fill();
}

// A darker tone of "#rrggbb".
function shade(color) {
  const [r, g, b] = [1, 3, 5].map((at) => Math.round(Number.parseInt(color.slice(at, at + 2), 16) * 0.82));
  return `rgb(${r} ${g} ${b})`;
}
