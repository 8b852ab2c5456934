// The meeting's page, for three kinds of visitors: people, the recorder, and checks of how the page looks.
//
// /meet/ID                     people: lobby, then the meeting
// /meet/ID#host=TOKEN          the same as host
// /meet/ID#recorder=TOKEN      the recorder: receives everything, is invisible, sends nothing
//   …&stun=ADDRESS:PORT        from which it learns where others reach it (browser_bot/network/udp_relay.py)
// /meet/ID?state=grid-4        drawn participants who do not move (see states.js)
// ?layout=grid|spotlight       the initial layout

import { PeopleChannel, RecorderChannel } from "./channel.js";
import { Controls, askForPage, askToEnd, invite, showBanner } from "./controls.js";
import { deviceText } from "./devices.js";
import { lobby } from "./lobby.js";
import { Media, canShare, screenSource } from "./media.js";
import { Plugins } from "./plugins.js";
import { Record } from "./record.js";
import { Room } from "./room.js";
import { Tile } from "./tile.js";
import { View } from "./view.js";

const OWN = "own"; // the key of one's own tile; the server's ids have 16 characters

const element = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const secrets = new URLSearchParams(location.hash.slice(1));
const meetingId = idFromAddress();
const hostKey = `host ${meetingId}`; // in the session's storage
document.querySelectorAll(".meeting-id").forEach((each) => (each.textContent = meetingId));
document.title = `${meetingId} · Meeting`;

// ms in which a request for a plugin is repeated when the connection is back; later, nobody expects it any more.
const ASKED_FOR = 30_000;

// A video without its first frame delays the load event, for which the recorder's bot waits.
addEventListener("load", start);

function start() {
  if (query.has("state")) {
    rehearse(query.get("state"));
  } else if (secrets.has("recorder")) {
    record(secrets.get("recorder"), secrets.get("stun"));
  } else {
    meet();
  }
}

async function rehearse(state) {
  const { showState } = await import("./states.js");
  show("room");
  document.body.classList.toggle("bare", !query.has("controls"));
  document.documentElement.classList.toggle("people", query.has("controls"));
  document.querySelectorAll(".host-only").forEach((button) => (button.hidden = !query.has("host")));
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

function record(token, stun) {
  document.body.classList.add("bare");
  show("room");
  let started = false;
  const plugins = new Plugins(element("plugin"), { canDraw: false, onDraw() {} });
  const view = makeView(plugins);
  const room = new Room({ view, media: null, stun, send: (message) => channel.send(message) });
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
    onLost: () => room.disconnected(performance.now()),
  });
  setInterval(() => tick(room), 100);
  addEventListener("pagehide", () => channel.close());
}

function tick(room) {
  room.hear(performance.now());
  return room.expire(performance.now());
}

// ── people ──

async function meet() {
  const token = hostToken();
  let room = null;
  let channel = null;
  let recording = { on: false, paused: false };
  let recorded = false; // this meeting, at any time
  let asked = null; // the last plugin that this person asked for, until the room says which one is open
  let askedAt = 0;
  const own = new Tile({ own: true });
  const media = new Media({
    onTrack: (stream, kind, track) => room?.each((peer) => peer.replace(stream, kind, track)),
    onScreenEnd: () => unshare(),
  });

  document.documentElement.classList.add("people");
  element("lobby-invite").onclick = invite;
  show("lobby");
  const name = await lobby(media);
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
        own.color(message.id);
        setRecording(message.recording);
        element("end").hidden = !message.host;
        channel.send({ type: "state", media: media.state() });
        // A broken connection is noticed after seconds, and a request in the meantime is lost.
        if (asked !== null && performance.now() - askedAt < ASKED_FOR) {
          channel.send(asked);
        }
      } else if (message.type === "plugin") {
        asked = null;
      } else if (message.type === "listener") {
        room.connect(message.id);
      } else if (message.type === "recording") {
        setRecording(message);
      } else if (message.type === "ended") {
        goodbye("The host ended the meeting.", { again: null });
      } else if (message.type === "refused" && message.code === "unauthorized") {
        sessionStorage.removeItem(hostKey);
        goodbye("Your host link is not valid or has expired.", { again: "Join as a guest" });
      } else if (message.type === "refused") {
        goodbye(`${message.message[0].toUpperCase()}${message.message.slice(1)}.`, { again: "Try again" });
      }
      update();
    },
    onLost() {
      room.disconnected(performance.now());
      showBanner("Connection lost. Reconnecting…");
      update();
    },
  });

  function setRecording({ on, paused }) {
    recorded ||= on;
    recording = { on, paused };
    element("live").hidden = !on;
    element("live").classList.toggle("paused", paused);
    element("live").textContent = paused ? "Recording paused" : "Recording";
  }
  const tell = () => {
    channel.send({ type: "state", media: media.state() });
    update();
  };
  const turn = async (kind) => {
    try {
      await media.turn(kind, !media.is(kind));
    } catch (error) {
      throw Object.assign(error, { kind });
    }
    tell();
  };
  const open = (kind, url = null) => {
    asked = { type: "plugin", kind, url };
    askedAt = performance.now();
    channel.send(asked);
  };
  async function share() {
    let stream;
    try {
      stream = await media.share();
    } catch (error) {
      if (error.name === "NotAllowedError") {
        return; // the person closed the browser's dialog
      }
      throw error;
    }
    const sharing = new Tile({ own: true, screen: true });
    sharing.name("Your screen");
    sharing.show(stream);
    view.add(OWN, sharing, view.screens);
    tell(); // before the stream itself arrives, so that the others know it is a screen
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
  // `again`: the label of the button to come back; null for a meeting that is over.
  function goodbye(text, { again }) {
    channel.close();
    room.clear();
    media.close();
    plugins.show(null);
    document.querySelectorAll("dialog[open]").forEach((dialog) => dialog.close());
    element("over-text").textContent = text;
    element("over-hint").hidden = !recorded || token !== null;
    element("again").hidden = again === null;
    element("again").textContent = again ?? "";
    showBanner("");
    show("over");
    element("over-text").focus();
  }

  const controls = new Controls(
    {
      audio: () => turn("audio"),
      video: () => turn("video"),
      share: () => (media.screen === null ? share() : unshare()),
      "layout-switch": () => {
        view.use(view.layout === "grid" ? "spotlight" : "grid");
        update();
      },
      whiteboard: () => open(plugins.kind === "whiteboard" ? null : "whiteboard"),
      "share-page": async () => {
        if (plugins.kind === "page") {
          return open(null);
        }
        const url = await askForPage();
        if (url !== null) {
          open("page", url);
        }
      },
      invite,
      end: async () => {
        if (await askToEnd(recording.on)) {
          channel.send({ type: "end" });
        }
      },
      leave: () => goodbye("You left the meeting.", { again: "Join again" }),
      again: () => location.reload(),
    },
    (error) => (error.kind ? deviceText({ [error.kind]: error }) : error.message),
  );
  element("share").hidden = !canShare();
  update();
  setInterval(() => tick(room) && update(), 100);
  addEventListener("pagehide", () => channel.close());
  addEventListener("keydown", (event) => shortcut(event));
  if (token !== null) {
    const buttons = { record: element("record"), pause: element("pause") };
    const notices = [element("notice"), element("over-notice")];
    new Record({ ...buttons, notices }, meetingId, token, (text) => showBanner(text, { seconds: 6 }));
  }
}

// M mutes, V stops the camera, anywhere but in a field or a dialog.
function shortcut({ key, target, repeat, ctrlKey, altKey, metaKey }) {
  const id = { m: "audio", v: "video" }[key.toLowerCase()];
  const elsewhere = document.body.dataset.screen !== "room" || target.matches?.("input, select, dialog *");
  if (id !== undefined && !elsewhere && !repeat && !ctrlKey && !altKey && !metaKey) {
    element(id).click();
  }
}

// Handles the messages that people and recorders have in common.
function hear(message, room, plugins) {
  switch (message.type) {
    case "welcome":
      room.welcome(message, performance.now());
      plugins.restore(message.strokes);
      plugins.keep(message.plugin.kind, message.plugin.url);
      room.view.arrange();
      break;
    case "joined":
      room.join(message.member, room.media !== null);
      break;
    case "away":
      room.lose(message.id, performance.now());
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

// The host's token. It leaves the address at once: the address is for guests.
function hostToken() {
  if (secrets.has("host")) {
    sessionStorage.setItem(hostKey, secrets.get("host"));
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem(hostKey);
}

// The id is the part of the address after /meet/; the page shows it as text only.
function idFromAddress() {
  const raw = location.pathname.replace(/^.*?\/meet\//, "");
  try {
    return decodeURIComponent(raw);
  } catch {
    return raw; // "%" signs that encode nothing
  }
}
