// Who is in the meeting: members, the connections to their browsers, and their tiles.
//
// Signaling and media break independently. While signaling is away, tiles stay and media keep flowing; members and
// connections are matched by id when it is back.

import { Peer } from "./peer.js";
import { Tile } from "./tile.js";

const READY_TIMEOUT = 8_000; // ms that a recorder waits for the video of those who are there
const GRACE = 30_000; // ms that tiles stay without signaling; the server keeps members as long

export class Room {
  // `media`: what this person sends; null for the recorder, which sends nothing. `stun`: a server of its own.
  constructor({ view, media, send, stun = null }) {
    Object.assign(this, { view, media, send, stun });
    this.ownId = null;
    this.members = new Map(); // people, by id: { name, media, tile, screenTile, streams }
    this.peers = new Map(); // by id, including those to recorders
    this.away = new Map(); // when members lost their connection to the server, by id
    this.lostAt = null; // when this page lost its own
    this.iceServers = [];
  }

  welcome({ id, members, listeners, ice_servers: iceServers }, now) {
    const resumed = id === this.ownId;
    if (!resumed) {
      this.clear();
    }
    this.ownId = id;
    this.lostAt = null;
    this.view.lost = false;
    this.iceServers = this.stun ? [...iceServers, { urls: `stun:${this.stun}` }] : iceServers;
    this.peers.forEach((peer) => peer.use(this.iceServers));
    // After a restart of the server, the others may not be back yet.
    const present = new Set([...members.map((member) => member.id), ...listeners]);
    this.ids()
      .filter((each) => !present.has(each))
      .forEach((each) => this.lose(each, now));
    members.forEach((member) => this.join(member, resumed));
    listeners.forEach((each) => this.connect(each)); // a recorder never begins
  }

  // Adds a member, or updates one that reconnected. `begin`: this side opens the connection.
  join({ id, name, media }, begin) {
    this.away.delete(id);
    if (!this.members.has(id)) {
      const tile = new Tile();
      tile.name(name);
      tile.color(id);
      this.members.set(id, { name, media, tile, screenTile: null, streams: new Map() });
      this.view.add(id, tile);
    }
    this.state({ id, media });
    if (begin || this.peers.has(id)) {
      this.connect(id);
    }
  }

  leave(id) {
    this.away.delete(id);
    this.peers.get(id)?.close();
    this.peers.delete(id);
    if (this.members.delete(id)) {
      this.view.remove(id, this.view.screens);
      this.view.remove(id);
    }
  }

  // A member's connection to the server broke; their media may still flow.
  lose(id, now) {
    this.away.set(id, now);
  }

  // This page's own connection to the server broke.
  disconnected(now) {
    this.lostAt ??= now;
  }

  // Removes the tiles that nothing feeds any more. Returns whether there were any.
  expire(now) {
    const before = this.ids().length;
    if (this.lostAt !== null && now - this.lostAt >= GRACE) {
      this.view.lost = true;
      this.clear();
    }
    // While signaling is away, nobody can tell a lost member from a lost network.
    for (const [id, since] of this.lostAt === null ? [...this.away] : []) {
      if (now - since >= GRACE || !this.peers.get(id)?.connected) {
        this.leave(id);
      }
    }
    return this.ids().length !== before;
  }

  state({ id, media }) {
    const member = this.members.get(id);
    if (member !== undefined) {
      member.media = media;
      this.refresh(id);
    }
  }

  // Opens the connection to a member, or repairs the one that is there.
  connect(id) {
    const known = this.peers.get(id);
    if (known !== undefined) {
      this.away.delete(id);
      known.recover();
      return known;
    }
    const peer = new Peer({
      polite: this.ownId < id, // both sides agree on it, whoever begins
      iceServers: this.iceServers,
      sources: this.media?.sources() ?? [],
      send: (signal) => this.send({ type: "signal", to: id, ...signal }),
      onStream: (stream) => {
        this.members.get(id)?.streams.set(stream.id, stream);
        this.refresh(id);
      },
    });
    this.peers.set(id, peer);
    return peer;
  }

  signal({ from, ...signal }) {
    (this.peers.get(from) ?? this.connect(from)).hear(signal);
  }

  // Shows what a member sends, as far as it has arrived.
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

  // Resolves when everybody who has video is visible, or after a time-out.
  ready() {
    const pictures = [...this.members.values()].filter(({ media }) => media.video).map(({ tile }) => tile.pictured());
    const late = new Promise((resolve) => setTimeout(resolve, READY_TIMEOUT));
    return Promise.race([Promise.all(pictures), late]);
  }

  each(act) {
    this.peers.forEach(act);
  }

  ids() {
    return [...new Set([...this.members.keys(), ...this.peers.keys()])];
  }

  clear() {
    this.ids().forEach((id) => this.leave(id));
  }
}
