// One participant or one shared screen: video, name plate, marks.

const COLORS = ["#4b3bd1", "#0b7f7a", "#c2571a", "#b72d6b", "#2563a8", "#5b7c1e", "#8a3ea8", "#a8443e"];
const SPEAKING_LEVEL = 0.01;
const SPEAKING_HOLD = 350; // ms that the border stays, so that it does not flicker between syllables

export class Tile {
  // `own`: mirrored, as people know themselves, and silent.
  constructor({ own = false, screen = false } = {}) {
    this.element = document.getElementById("tile").content.firstElementChild.cloneNode(true);
    this.element.classList.toggle("own", own);
    this.element.classList.toggle("screen", screen);
    const part = (name) => this.element.querySelector(name);
    this.parts = { name: part(".name"), bars: part(".bars"), avatar: part(".avatar"), video: part("video") };
    this.parts.video.muted = true; // audio has its own element, because it plays without video too
    this.audio = own ? null : part("audio");
    this.lastHeard = -Infinity;
    this.name("");
  }

  name(text) {
    this.parts.name.textContent = text;
    this.parts.avatar.textContent = [...text.trim()][0]?.toUpperCase() ?? "";
  }

  // Everybody sees a participant in the same color, because it follows from the id.
  color(id) {
    const sum = [...id].reduce((total, letter) => total + letter.codePointAt(0), 0);
    this.parts.avatar.style.background = COLORS[sum % COLORS.length];
  }

  media({ audio, video }) {
    this.element.classList.toggle("muted", !audio);
    this.element.classList.toggle("off", !video);
  }

  // Shows a stream, or nothing (null).
  show(stream) {
    for (const element of [this.parts.video, this.audio]) {
      if (element !== null && element.srcObject !== stream) {
        element.srcObject = stream;
      }
    }
  }

  // Resolves when the first video frame is visible.
  pictured() {
    return new Promise((resolve) => this.parts.video.requestVideoFrameCallback(resolve));
  }

  // `level`: the audio level, 0 to 1. Returns whether they speak.
  hear(level, now) {
    if (level > SPEAKING_LEVEL) {
      this.lastHeard = now;
    }
    const speaking = now - this.lastHeard < SPEAKING_HOLD;
    this.element.classList.toggle("speaking", speaking);
    this.parts.bars.dataset.level = speaking ? String(Math.min(3, Math.ceil(level * 14))) : "0";
    return speaking;
  }

  place({ left, top, width, height }) {
    Object.assign(this.element.style, {
      left: `${left}px`,
      top: `${top}px`,
      width: `${width}px`,
      height: `${height}px`,
    });
    this.element.classList.toggle("small", width < 220);
  }
}
