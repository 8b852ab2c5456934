// The whiteboard or a shared page, which everybody sees beside the people. Each is a frame.

const MOST_STROKES = 10_000;
const BOARD = "/meet-assets/board.html";

export class Plugins {
  // `onDraw(message)`: this person drew something or cleared the board.
  constructor(element, { canDraw, onDraw }) {
    this.element = element;
    this.canDraw = canDraw;
    this.open = false;
    this.kind = null;
    this.url = null;
    this.strokes = []; // the drawing, for a whiteboard that is opened later
    this.board = null;
    addEventListener("message", ({ data, source, origin }) => {
      if (source === null || source !== this.board?.contentWindow || origin !== location.origin) {
        return; // a shared page may post anything
      }
      if (data.type === "ready") {
        this.tell({ type: "strokes", strokes: this.strokes });
      } else {
        this.draw(data);
        onDraw(data);
      }
    });
  }

  // The same as `show`, but does not reload what is open already.
  keep(kind, url) {
    if (kind !== this.kind || (url ?? null) !== this.url) {
      this.show(kind, url);
    }
  }

  show(kind, url) {
    this.open = kind !== null;
    this.kind = kind;
    this.url = url ?? null;
    this.element.hidden = !this.open;
    this.element.querySelector("iframe")?.remove();
    this.element.dataset.kind = kind ?? "";
    this.element.querySelector(".plugin-title").textContent = kind === "page" ? url : "Whiteboard";
    this.board = null;
    if (kind === null) {
      return;
    }
    const frame = document.createElement("iframe");
    // No title: it would stand over the page in the recording as soon as the pointer does.
    frame.setAttribute("aria-label", kind === "page" ? "Shared page" : "Whiteboard");
    if (kind === "page") {
      // Without allow-same-origin, even a page of this server has a foreign origin.
      frame.sandbox = "allow-scripts allow-forms";
      frame.referrerPolicy = "no-referrer";
      frame.src = url;
    } else {
      this.board = frame;
      frame.src = this.canDraw ? BOARD : `${BOARD}#view`;
    }
    this.element.append(frame);
  }

  // Stores a stroke, or clears the board.
  draw(message) {
    if (message.type === "clear") {
      this.strokes = [];
    } else {
      this.strokes.push({ color: message.color, points: message.points });
      this.strokes.splice(0, this.strokes.length - MOST_STROKES);
    }
  }

  // Draws a stroke of somebody else.
  hear(message) {
    const flat = message.type === "stroke" ? { type: "stroke", ...message.stroke } : { type: "clear" };
    this.draw(flat);
    this.tell(flat);
  }

  restore(strokes) {
    this.strokes = strokes;
    this.tell({ type: "strokes", strokes });
  }

  tell(message) {
    this.board?.contentWindow?.postMessage(message, location.origin);
  }

  place({ left, top, width, height }) {
    const pixels = { left, top, width, height };
    Object.entries(pixels).forEach(([name, value]) => this.element.style.setProperty(name, `${value}px`));
  }
}
