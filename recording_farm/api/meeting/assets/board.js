// The shared whiteboard. It posts strokes to the page around it, which sends them to the others.

const COLORS = { ink: "#2a2f3d", blue: "#2f6fed", red: "#e0484f", green: "#1f9d61" };
const WIDE = 6; // of the board's 1600
const SEND_EVERY = 60; // ms
const MOST_POINTS = 60; // in one piece; the meeting accepts 64

const canvas = document.getElementById("board");
const c = canvas.getContext("2d");
const pens = [...document.querySelectorAll(".pen")];
const canDraw = location.hash !== "#view" && parent !== window;
let color = "ink";
let piece = []; // points that are not sent yet
let timer = null;

const tell = (message) => parent.postMessage(message, location.origin);

function draw({ color: ink, points }) {
  c.strokeStyle = c.fillStyle = COLORS[ink];
  c.lineWidth = WIDE;
  c.lineCap = c.lineJoin = "round";
  c.beginPath();
  points.forEach(([x, y]) => c.lineTo(x * canvas.width, y * canvas.height));
  c.lineTo(points.at(-1)[0] * canvas.width + 0.01, points.at(-1)[1] * canvas.height); // a dot is a line too
  c.stroke();
}

const clear = () => c.clearRect(0, 0, canvas.width, canvas.height);

addEventListener("message", ({ data, source, origin }) => {
  if (source !== parent || origin !== location.origin) {
    return;
  }
  if (data.type !== "stroke") {
    clear();
  }
  (data.type === "stroke" ? [data] : (data.strokes ?? [])).forEach(draw);
});

function place({ clientX, clientY }) {
  const { left, top, width, height } = canvas.getBoundingClientRect();
  const share = (value) => Math.round(Math.min(1, Math.max(0, value)) * 1e4) / 1e4;
  return [share((clientX - left) / width), share((clientY - top) / height)];
}

function send() {
  if (piece.length > 0) {
    tell({ type: "stroke", color, points: piece });
    piece = piece.slice(-1); // the next piece continues where this one ends
  }
}

function add(event) {
  const points = [...piece.slice(-1), place(event)];
  piece.push(points.at(-1));
  draw({ color, points });
  if (piece.length >= MOST_POINTS) {
    send();
  }
}

function lift() {
  if (timer !== null) {
    clearInterval(timer);
    timer = null;
    send();
    piece = [];
  }
}

function press(event) {
  canvas.setPointerCapture(event.pointerId);
  piece = [];
  add(event);
  timer = setInterval(() => piece.length > 1 && send(), SEND_EVERY);
}

function choose(pen) {
  color = pen.dataset.color;
  pens.forEach((each) => each.setAttribute("aria-pressed", String(each === pen)));
}

if (canDraw) {
  document.body.classList.add("drawing");
  canvas.addEventListener("pointerdown", press);
  canvas.addEventListener("pointermove", (event) => timer !== null && add(event));
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  pens.forEach((pen) => pen.addEventListener("click", () => choose(pen)));
  document.getElementById("clear").addEventListener("click", () => {
    clear();
    tell({ type: "clear" });
  });
}
tell({ type: "ready" });
