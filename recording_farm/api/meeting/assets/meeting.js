// The meeting's page, for three kinds of visitors: people, the recorder, and checks of how the page looks.
//
// /meet/ID                     people: lobby, then the meeting
// /meet/ID#host=TOKEN          the same as host
// /meet/ID#recorder=TOKEN      the recorder: sees and hears all, is seen by nobody, sends nothing
// /meet/ID?state=grid-4        drawn participants who do not move (see states.js)
// ?layout=grid|spotlight       the layout to begin with

import { PeopleChannel, RecorderChannel } from "./channel.js";
import { Controls, askForPage, showBanner } from "./controls.js";
import { lobby } from "./lobby.js";
import { Media, screenSource } from "./media.js";
import { Plugins } from "./plugins.js";
import { Record } from "./record.js";
import { Room } from "./room.js";
import { Tile } from "./tile.js";
import { View } from "./view.js";

const OWN = "own"; // the id of one's own tile; the server's have 16 letters

const element = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const secrets = new URLSearchParams(location.hash.slice(1));
const meetingId = idFromAddress();
document.querySelectorAll(".meeting-id").forEach((each) => (each.textContent = meetingId));
document.title = `${meetingId} · Meeting`;

// ms for which a plugin is asked for again when the connection is back; later, nobody waits for it any more.
const ASKED_FOR = 30_000;

// Until a video has its first picture it keeps the page from being loaded, which the recorder's bot waits for.
addEventListener("load", start);

function start() {
  if (query.has("state")) {
    rehearse(query.get("state"));
  } else if (secrets.has("recorder")) {
    record(secrets.get("recorder"));
  } else {
    meet();
  }
}

async function rehearse(state) {
  const { showState } = await import("./states.js");
  show("room");
  document.body.classList.toggle("bare", !query.has("controls"));
  await showState(state);
  console.log("START_RECORDING");
}

function show(screen) {
  document.body.dataset.screen = screen;
}

function makeView(plugins) {
  const view = new View(element("stage"), { plugin: plugins, empty: element("empty") });
  view.use(query.get("layout") === "spotlight" ? "spotlight" : "grid");
  return view;
}

// ── the recorder ──

function record(token) {
  document.body.classList.add("bare");
  show("room");
  let started = false;
  const plugins = new Plugins(element("plugin"), { canDraw: false, onDraw() {} });
  const room = new Room({ view: makeView(plugins), media: null, send: (message) => channel.send(message) });
  const channel = new RecorderChannel(meetingId, token, {
    async onMessage(message) {
      hear(message, room, plugins);
      if (message.type === "welcome" && !started) {
        started = true;
        await room.ready();
        console.log("START_RECORDING");
      } else if (message.type === "ended") {
        room.clear();
        console.log("END_RECORDING");
      } else if (message.type === "refused") {
        showBanner(`This meeting cannot be recorded: ${message.message}`);
        console.log(`REFUSE_RECORDING: ${message.message}`);
      }
    },
    onLost: () => room.clear(),
  });
  setInterval(() => room.hear(performance.now()), 100);
  addEventListener("pagehide", () => channel.close());
}

// ── people ──

async function meet() {
  const token = hostToken();
  let room = null;
  let channel = null;
  let name = "";
  let sharing = null;
  let asked = null; // the plugin that was asked for last, until the room says which one is open
  let askedAt = 0;
  const own = new Tile({ own: true });
  const media = new Media({
    onTrack: (stream, kind, track) => room?.each((peer) => peer.replace(stream, kind, track)),
    onScreenEnd: () => unshare(),
  });

  show("lobby");
  name = await lobby(media);
  own.name(`${name} (you)`);
  own.show(media.camera);
  show("room");

  const plugins = new Plugins(element("plugin"), { canDraw: true, onDraw: (message) => channel.send(message) });
  const view = makeView(plugins);
  view.add(OWN, own);
  room = new Room({ view, media, send: (message) => channel.send(message) });
  const join = () => ({ type: "join", name, media: media.state(), ...(token && { token }) });
  channel = new PeopleChannel(meetingId, join, {
    onMessage(message) {
      hear(message, room, plugins);
      if (message.type === "welcome") {
        showBanner("");
        element("live").hidden = !message.recording;
        element("end").hidden = !message.host;
        channel.send({ type: "state", media: media.state() });
        // A connection may be dead for seconds before anybody knows, and what is asked for meanwhile lost.
        if (asked !== null && performance.now() - askedAt < ASKED_FOR) {
          channel.send(asked);
        }
      } else if (message.type === "plugin") {
        asked = null;
      } else if (message.type === "joined" || message.type === "listener") {
        room.connect(message.member?.id ?? message.id, false);
      } else if (message.type === "recording") {
        element("live").hidden = !message.on;
      } else if (message.type === "ended") {
        goodbye("The meeting is over");
      } else if (message.type === "refused") {
        goodbye(message.message);
      }
      update();
    },
    onLost() {
      room.clear();
      showBanner("The connection to the meeting is lost, trying again");
      update();
    },
  });

  const tell = () => {
    channel.send({ type: "state", media: media.state() });
    update();
  };
  const turn = async (kind) => {
    await media.turn(kind, !media.is(kind));
    tell();
  };
  const open = (kind, url = null) => {
    asked = { type: "plugin", kind, url };
    askedAt = performance.now();
    channel.send(asked);
  };
  async function share() {
    const stream = await media.share();
    sharing = new Tile({ own: true, screen: true });
    sharing.name("Your screen");
    sharing.show(stream);
    view.add(OWN, sharing, view.screens);
    tell(); // before the stream itself comes, so that the others know it for a screen
    room.each((peer) => peer.add(screenSource(stream)));
  }
  function unshare() {
    const stream = media.screen;
    if (stream !== null) {
      media.unshare();
      view.remove(OWN, view.screens);
      room.each((peer) => peer.remove(stream));
      tell();
    }
  }
  function update() {
    own.media(media.state());
    element("count").textContent = String(room.members.size + 1);
    controls.show({
      audio: media.is("audio"),
      video: media.is("video"),
      share: media.screen !== null,
      "layout-switch": view.layout === "spotlight",
      whiteboard: plugins.kind === "whiteboard",
      "share-page": plugins.kind === "page",
    });
  }
  function goodbye(text) {
    channel.close();
    room.clear();
    media.close();
    plugins.show(null);
    element("over-text").textContent = text;
    showBanner("");
    show("over");
  }

  const controls = new Controls({
    audio: () => turn("audio"),
    video: () => turn("video"),
    share: () => (media.screen === null ? share() : unshare()),
    "layout-switch": () => {
      view.use(view.layout === "grid" ? "spotlight" : "grid");
      update();
    },
    whiteboard: () => open(plugins.kind === "whiteboard" ? null : "whiteboard"),
    "share-page": async () => {
      const url = plugins.kind === "page" ? null : await askForPage();
      if (plugins.kind === "page" || url !== null) {
        open(url === null ? null : "page", url);
      }
    },
    end: () => channel.send({ type: "end" }),
    leave: () => goodbye("You have left the meeting"),
    again: () => location.reload(),
  });
  update();
  setInterval(() => room.hear(performance.now()), 100);
  addEventListener("pagehide", () => channel.close());
  if (token !== null) {
    new Record(element("record"), meetingId, token, (text) => showBanner(text, 6));
  }
}

// What the room tells everybody, whoever they are.
function hear(message, room, plugins) {
  switch (message.type) {
    case "welcome":
      room.welcome(message);
      plugins.restore(message.strokes);
      plugins.show(message.plugin.kind, message.plugin.url);
      break;
    case "joined":
      room.join(message.member);
      break;
    case "left":
      room.leave(message.id);
      break;
    case "state":
      room.state(message.member);
      break;
    case "signal":
      room.signal(message);
      break;
    case "stroke":
    case "clear":
      plugins.hear(message);
      break;
    case "plugin":
      plugins.show(message.kind, message.url);
      room.view.arrange();
      break;
  }
}

// The host's token, which leaves the address at once: whoever is sent the address is to be a guest.
function hostToken() {
  const key = `host ${meetingId}`;
  if (secrets.has("host")) {
    sessionStorage.setItem(key, secrets.get("host"));
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(key);
}

// The id is whatever the address says after /meet/, and is only ever shown as text.
function idFromAddress() {
  const raw = location.pathname.replace(/^.*?\/meet\//, "");
  try {
    return decodeURIComponent(raw);
  } catch {
    return raw; // "%" signs that encode nothing
  }
}
