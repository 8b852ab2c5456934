// Layouts for review and for regression checks, with drawn participants who do not move.
//
// ?state=grid-N (0 to 9), spotlight, screen, whiteboard, page. `&controls` shows the buttons too, `&host` also those of
// a host. The page prints START_RECORDING when everything is visible.

import { Plugins } from "./plugins.js";
import { Tile } from "./tile.js";
import { View } from "./view.js";

const NAMES = ["Ada", "李雷", "Søren", "ゆき", "Amina Okonkwo-Fitzgerald the Third", "Luís", "Priya", "Οδυσσέας", "Zoë"];
const HUES = [248, 176, 22, 330, 205, 90, 280, 48, 0];
const PEOPLE = { spotlight: 4, screen: 4, whiteboard: 4, page: 3 };
const MUTED = new Set([1, 4]);
const OFF = new Set([3, 7]);

export async function showState(state) {
  const plugins = new Plugins(document.getElementById("plugin"), { canDraw: false, onDraw() {} });
  const view = new View(document.getElementById("stage"), {
    plugin: plugins,
    empty: document.getElementById("empty"),
  });
  const count = PEOPLE[state] ?? Number(/^grid-([0-9])$/.exec(state)?.[1] ?? 0);
  NAMES.slice(0, count).forEach((name, i) => view.add(String(i), person(name, i)));
  document.getElementById("count").textContent = String(count);
  view.use(state === "spotlight" ? "spotlight" : "grid");
  if (state === "screen") {
    const tile = new Tile({ screen: true });
    tile.name(`${NAMES[0]} · screen`);
    picture(tile, drawSlide, 1280, 720);
    view.add("0", tile, view.screens);
  } else if (state === "whiteboard") {
    plugins.restore(drawing());
    plugins.show("whiteboard");
  } else if (state === "page") {
    plugins.show("page", "/meet-assets/example.html");
  }
  view.arrange();
  const frame = document.querySelector(".plugin iframe");
  if (frame !== null) {
    await new Promise((resolve) => frame.addEventListener("load", resolve, { once: true }));
  }
  await document.fonts.ready;
  // The frame gets the drawing after it has loaded; two frames later everything is composed.
  await new Promise((resolve) => setTimeout(resolve, 300));
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
}

function person(name, i) {
  const tile = new Tile();
  tile.name(name);
  tile.color(String(i));
  tile.media({ audio: !MUTED.has(i), video: !OFF.has(i) });
  tile.element.classList.toggle("speaking", i === 0);
  tile.parts.bars.dataset.level = i === 0 ? "2" : "0";
  picture(tile, (c, width, height) => drawPerson(c, width, height, HUES[i]), 640, 360);
  return tile;
}

// Puts a canvas in place of the video.
function picture(tile, draw, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.className = "drawn";
  draw(canvas.getContext("2d"), width, height);
  tile.parts.video.replaceWith(canvas);
}

function drawPerson(c, width, height, hue) {
  c.fillStyle = `hsl(${hue} 45% 34%)`;
  c.fillRect(0, 0, width, height);
  c.fillStyle = `hsl(${hue} 50% 62%)`;
  c.beginPath();
  c.ellipse(width / 2, height * 1.02, width * 0.22, height * 0.36, 0, 0, 2 * Math.PI);
  c.fill();
  c.fillStyle = `hsl(${hue} 55% 76%)`;
  c.beginPath();
  c.arc(width / 2, height * 0.42, height * 0.2, 0, 2 * Math.PI);
  c.fill();
}

function drawSlide(c, width, height) {
  c.fillStyle = "#f7f8fb";
  c.fillRect(0, 0, width, height);
  c.fillStyle = "#6d5efc";
  c.fillRect(80, 90, 520, 44);
  c.fillStyle = "#c9cede";
  [0, 1, 2, 3].forEach((i) => c.fillRect(80, 190 + i * 56, 440 - 60 * (i % 2), 22));
  [120, 210, 160, 300].forEach((high, i) => {
    c.fillStyle = `hsl(${HUES[i]} 60% 55%)`;
    c.fillRect(700 + i * 125, 600 - high, 90, high);
  });
}

function drawing() {
  const wave = Array.from({ length: 60 }, (_, i) => [0.1 + i * 0.013, 0.3 + 0.12 * Math.sin(i / 5)]);
  const box = [[0.15, 0.6], [0.4, 0.6], [0.4, 0.85], [0.15, 0.85], [0.15, 0.6]];
  const tick = [[0.55, 0.72], [0.62, 0.82], [0.8, 0.58]];
  return [
    { color: "blue", points: wave },
    { color: "ink", points: box },
    { color: "green", points: tick },
  ];
}
