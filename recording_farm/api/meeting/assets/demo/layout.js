// Which layout is shown, and who is in the spotlight. How the layouts look is the style sheet's business.

const AUTO_PERIOD = 8_000; // ms that "auto" stays with one layout
const SWITCH_AFTER = 600; // ms somebody has to talk alone to take the spotlight: an "mm-hm" must not
const SPEAKING_LEVEL = 0.01;
const SPEAKING_HOLD = 350; // ms the border stays, so that it does not flicker between syllables

export class Layout {
  constructor(people, choice) {
    this.people = people; // the element that holds the tiles
    this.auto = choice !== "grid" && choice !== "spotlight";
    this.tiles = [];
    this.spotlight = 0;
    this.candidate = { index: 0, since: 0 };
    this.show(this.auto ? "grid" : choice);
  }

  show(name) {
    this.people.dataset.layout = name;
  }

  // From now on "auto" counts its periods.
  start() {
    if (this.auto) {
      setInterval(() => this.show(this.people.dataset.layout === "grid" ? "spotlight" : "grid"), AUTO_PERIOD);
    }
  }

  addTile(name) {
    const tile = document.createElement("article");
    tile.className = "tile";
    const video = document.createElement("video");
    video.autoplay = true;
    video.playsInline = true;
    const plate = document.createElement("div");
    plate.className = "plate";
    const bars = document.createElement("span");
    bars.className = "bars";
    bars.append(...[1, 2, 3].map(() => document.createElement("i")));
    const label = document.createElement("span");
    label.className = "name";
    label.textContent = name;
    plate.append(bars, label);
    tile.append(video, plate);
    this.people.append(tile);
    this.tiles.push({ tile, bars, video, lastHeard: -Infinity });
    this.mark();
    return video;
  }

  // `levels`: how loud each participant is heard, 0 to 1.
  hear(levels, now) {
    const talking = [];
    this.tiles.forEach((entry, index) => {
      if (levels[index] > SPEAKING_LEVEL) {
        entry.lastHeard = now;
      }
      const speaking = now - entry.lastHeard < SPEAKING_HOLD;
      entry.tile.classList.toggle("speaking", speaking);
      const step = speaking ? String(Math.min(3, Math.ceil(levels[index] * 14))) : "0";
      if (entry.bars.dataset.level !== step) {
        entry.bars.dataset.level = step;
      }
      if (speaking) {
        talking.push(index);
      }
    });

    if (talking.length !== 1 || talking[0] === this.spotlight) {
      this.candidate.index = this.spotlight;
    } else if (talking[0] !== this.candidate.index) {
      this.candidate = { index: talking[0], since: now };
    } else if (now - this.candidate.since >= SWITCH_AFTER) {
      this.spotlight = this.candidate.index;
      this.mark();
    }
  }

  mark() {
    this.tiles.forEach(({ tile }, index) => tile.classList.toggle("spotlight", index === this.spotlight));
  }
}
