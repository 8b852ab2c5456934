// Who is in the meeting: the members, the connections to their browsers, and their tiles.

import { Peer } from "./peer.js";
import { Tile } from "./tile.js";

const READY_TIMEOUT = 8_000; // ms that a recorder waits for the pictures of those who are there

export class Room {
  // `media`: what this person sends; null for the recorder, which sends nothing.
  constructor({ view, media, send }) {
    Object.assign(this, { view, media, send });
    this.members = new Map(); // people, by their ids: { name, media, tile, screenTile, streams }
    this.peers = new Map(); // also those to recorders
    this.iceServers = [];
  }

  welcome({ members, listeners, ice_servers: iceServers }) {
    this.clear();
    this.iceServers = iceServers;
    members.forEach((member) => this.join(member));
    listeners.forEach((id) => this.connect(id, false)); // a recorder never begins
  }

  join({ id, name, media }) {
    const tile = new Tile();
    tile.name(name);
    this.members.set(id, { name, media, tile, screenTile: null, streams: new Map() });
    this.view.add(id, tile);
    this.refresh(id);
  }

  leave(id) {
    this.peers.get(id)?.close();
    this.peers.delete(id);
    if (this.members.delete(id)) {
      this.view.remove(id, this.view.screens);
      this.view.remove(id);
    }
  }

  state({ id, media }) {
    const member = this.members.get(id);
    if (member !== undefined) {
      member.media = media;
      this.refresh(id);
    }
  }

  // Whoever was there first begins, so that two need not begin at once.
  connect(id, polite) {
    const peer = new Peer({
      polite,
      iceServers: this.iceServers,
      sources: this.media?.sources() ?? [],
      send: (signal) => this.send({ type: "signal", to: id, ...signal }),
      onStream: (stream) => {
        this.members.get(id)?.streams.set(stream.id, stream);
        this.refresh(id);
      },
      onConnected: () => {},
    });
    this.peers.set(id, peer);
    return peer;
  }

  signal({ from, ...signal }) {
    (this.peers.get(from) ?? this.connect(from, true)).hear(signal);
  }

  // Shows what a member sends, as far as it has come.
  refresh(id) {
    const member = this.members.get(id);
    if (member === undefined) {
      return;
    }
    const { media, tile, streams, name } = member;
    tile.media(media);
    tile.show(streams.get(media.camera) ?? null);
    const screen = streams.get(media.screen) ?? null;
    if (screen !== null && member.screenTile === null) {
      member.screenTile = new Tile({ screen: true });
      member.screenTile.name(`${name} · screen`);
      this.view.add(id, member.screenTile, this.view.screens);
    } else if (media.screen === null && member.screenTile !== null) {
      member.screenTile = null;
      this.view.remove(id, this.view.screens);
    }
    member.screenTile?.show(screen);
  }

  hear(now) {
    const speaking = [...this.members].filter(([id, { tile, media }]) =>
      tile.hear(media.audio ? (this.peers.get(id)?.level() ?? 0) : 0, now),
    );
    this.view.hear(
      speaking.map(([id]) => id),
      now,
    );
  }

  // Resolves when everybody who has a picture is seen, or it takes too long.
  ready() {
    const pictures = [...this.members.values()].filter(({ media }) => media.video).map(({ tile }) => tile.pictured());
    const late = new Promise((resolve) => setTimeout(resolve, READY_TIMEOUT));
    return Promise.race([Promise.all(pictures), late]);
  }

  each(act) {
    this.peers.forEach(act);
  }

  clear() {
    [...new Set([...this.members.keys(), ...this.peers.keys()])].forEach((id) => this.leave(id));
  }
}
