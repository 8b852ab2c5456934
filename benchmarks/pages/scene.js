// What the pages of the profiles are drawn of. Everything follows from the time: each run shows the same.
const canvas = document.querySelector('canvas');
const g = canvas.getContext('2d', { alpha: false });

// The grain of a camera, drawn once and laid over at another place for each frame.
const grain = new OffscreenCanvas(512, 512);
{
  const pixels = new ImageData(512, 512);
  let seed = 1;
  for (let i = 0; i < pixels.data.length; i += 4) {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff;
    pixels.data[i] = pixels.data[i + 1] = pixels.data[i + 2] = (seed >> 16) & 255;
    pixels.data[i + 3] = 5;
  }
  grain.getContext('2d').putImageData(pixels, 0, 0);
}

function addGrain(x, y, width, height, frame) {
  g.save();
  g.beginPath();
  g.rect(x, y, width, height);
  g.clip();
  const dx = (frame * 97) % 256, dy = (frame * 61) % 256;
  for (let left = x - dx; left < x + width; left += 512) {
    for (let top = y - dy; top < y + height; top += 512) g.drawImage(grain, left, top);
  }
  g.restore();
}

function drawHead(x, y, width, height, t, person) {
  const hue = 40 + 70 * person;
  const back = g.createLinearGradient(x, y, x + width, y + height);
  back.addColorStop(0, `hsl(${hue} 25% 30%)`);
  back.addColorStop(1, `hsl(${hue + 40} 20% 55%)`);
  g.fillStyle = back;
  g.fillRect(x, y, width, height);
  const sway = Math.sin(t * 0.7 + person) * width * 0.03, nod = Math.sin(t * 1.3 + person) * height * 0.02;
  const cx = x + width / 2 + sway, cy = y + height * 0.42 + nod;
  g.fillStyle = `hsl(${hue + 180} 30% 35%)`;
  g.beginPath();
  g.ellipse(cx, y + height * 1.02, width * 0.3, height * 0.34, 0, 0, 2 * Math.PI);
  g.fill();
  g.fillStyle = 'hsl(25 45% 65%)';
  g.beginPath();
  g.ellipse(cx, cy, width * 0.13, height * 0.25, 0, 0, 2 * Math.PI);
  g.fill();
  g.fillStyle = '#301818';
  const mouth = Math.max(0.01, Math.abs(Math.sin(t * 5 + person * 2)) * 0.05);
  g.beginPath();
  g.ellipse(cx, cy + height * 0.12, width * 0.04, height * mouth, 0, 0, 2 * Math.PI);
  g.fill();
  for (const side of [-1, 1]) {
    g.beginPath();
    g.ellipse(cx + side * width * 0.05, cy - height * 0.04, width * 0.012, height * 0.02, 0, 0, 2 * Math.PI);
    g.fill();
  }
}

const WORDS = ('the recording of a meeting shows what people saw and heard and nothing that they did not see ' +
  'a document is written while it is talked about and then somebody scrolls to what was said before').split(' ');

function drawText(x, y, width, height, t) {
  g.fillStyle = '#fff';
  g.fillRect(x, y, width, height);
  g.save();
  g.beginPath();
  g.rect(x, y, width, height);
  g.clip();
  g.fillStyle = '#202124';
  g.font = '18px DejaVu Sans, sans-serif';
  // Six words a second are written; every eight seconds the page is scrolled by half.
  const written = Math.floor(t * 6), scroll = Math.floor(t / 8) * height * 0.5;
  let left = x + 30, top = y + 50 - scroll;
  for (let i = 0; i < written + 400; i++) {
    const word = WORDS[(i * 7) % WORDS.length];
    const wide = g.measureText(word + ' ').width;
    if (left + wide > x + width - 30) {
      left = x + 30;
      top += 28;
    }
    if (top > y && top < y + height + 30) g.fillText(word, left, top);
    left += wide;
  }
  g.restore();
}

function drawMotion(x, y, width, height, t) {
  for (let i = 0; i < 8; i++) {
    const angle = t * (0.5 + i * 0.13) + i;
    const cx = x + width / 2 + Math.cos(angle) * width * 0.45, cy = y + height / 2 + Math.sin(angle * 1.3) * height * 0.45;
    const light = g.createRadialGradient(cx, cy, 0, cx, cy, width * 0.25);
    light.addColorStop(0, `hsl(${(i * 47 + t * 40) % 360} 80% 60%)`);
    light.addColorStop(1, `hsl(${(i * 47 + t * 40) % 360} 80% 30% / 0)`);
    g.fillStyle = light;
    g.fillRect(x, y, width, height);
  }
}

const SCENES = {
  talk: (t, w, h) => {
    for (let i = 0; i < 4; i++) drawHead((i % 2) * w / 2, (i >> 1) * h / 2, w / 2, h / 2, t, i);
    return [0, 0, w, h];
  },
  text: (t, w, h) => {
    drawText(0, 0, w, h, t);
    return null;
  },
  mixed: (t, w, h) => {
    drawText(0, 0, w * 0.7, h, t);
    for (let i = 0; i < 3; i++) drawHead(w * 0.7, i * h / 3, w * 0.3, h / 3, t, i);
    return [w * 0.7, 0, w * 0.3, h];
  },
  motion: (t, w, h) => {
    drawMotion(0, 0, w, h, t);
    return [0, 0, w, h];
  },
};

canvas.width = innerWidth;
canvas.height = innerHeight;
const draw = SCENES[document.body.dataset.scene];
const began = performance.now();
let frame = 0;
(function show() {
  const t = (performance.now() - began) / 1000;
  const grained = draw(t, canvas.width, canvas.height);
  if (grained) addGrain(...grained, frame++);
  requestAnimationFrame(show);
})();
