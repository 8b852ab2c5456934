// The tiles, shared screens and plugins on the page, and which of them is large.

import { focus, grid } from "./layout.js";

const SWITCH_AFTER = 600; // ms somebody must speak alone to get the spotlight: an "mm-hm" is too short

export class View {
  constructor(stage, { plugin, empty }) {
    Object.assign(this, { stage, plugin, empty });
    this.layout = "grid"; // or "spotlight"
    this.tiles = new Map(); // of people, by their ids
    this.screens = new Map(); // of shared screens, by the ids of those who share; the last one is large
    this.met = false; // somebody has been here
    this.lost = false; // the connection to the meeting is lost, for longer than tiles stay
    this.spotlight = null;
    this.candidate = { id: null, since: 0 };
    new ResizeObserver(() => this.arrange()).observe(stage);
  }

  add(id, tile, tiles = this.tiles) {
    this.met = true;
    tiles.set(id, tile);
    this.stage.append(tile.element);
    this.arrange();
  }

  remove(id, tiles = this.tiles) {
    tiles.get(id)?.show(null);
    tiles.get(id)?.element.remove();
    tiles.delete(id);
    this.arrange();
  }

  use(layout) {
    this.layout = layout;
    this.arrange();
  }

  // `speaking`: the ids of those who are speaking.
  hear(speaking, now) {
    if (speaking.length !== 1 || speaking[0] === this.spotlight) {
      this.candidate = { id: this.spotlight, since: now };
    } else if (speaking[0] !== this.candidate.id) {
      this.candidate = { id: speaking[0], since: now };
    } else if (now - this.candidate.since >= SWITCH_AFTER) {
      this.spotlight = this.candidate.id;
      this.arrange();
    }
  }

  // A plugin is large, else the last shared screen, else the speaker in the spotlight layout.
  large() {
    if (this.plugin.open) {
      return this.plugin;
    }
    const screen = [...this.screens.values()].at(-1);
    if (screen !== undefined || this.layout === "grid" || this.tiles.size < 2) {
      return screen ?? null;
    }
    const others = [...this.tiles.values()].filter((tile) => tile.audio !== null);
    return this.tiles.get(this.spotlight) ?? others[0] ?? null;
  }

  emptyText() {
    if (this.lost) {
      return "Connection lost. Reconnecting…";
    }
    return this.met ? "Everyone has left" : "Nobody is here yet";
  }

  arrange() {
    const style = getComputedStyle(this.stage);
    const gap = Math.round(parseFloat(style.columnGap));
    const area = {
      left: gap,
      top: gap,
      width: this.stage.clientWidth - 2 * gap,
      height: this.stage.clientHeight - 2 * gap,
    };
    const large = this.large();
    const small = [...this.screens.values(), ...this.tiles.values()].filter((tile) => tile !== large);
    this.empty.textContent = this.emptyText();
    this.empty.hidden = large !== null || small.length > 0;
    if (area.width <= 0 || area.height <= 0) {
      return;
    }
    const { main, tiles } =
      large === null ? { main: null, tiles: small.length ? grid(small.length, area, gap) : [] } : focus(small.length, area, gap);
    large?.place(main);
    small.forEach((tile, i) => tile.place(tiles[i]));
  }
}
