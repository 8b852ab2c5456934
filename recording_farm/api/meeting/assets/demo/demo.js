// The demo meeting: four participants, each sent through a peer connection of their own, and a whiteboard.
//
// For tests and the curious, window.demoMeeting is
//   { participants: [{ name, connection, video }], audio, startedAt }
// where connection.sender and connection.receiver are the RTCPeerConnections in use (null between two attempts)
// and startedAt is the performance.now() of START_RECORDING (null before).

import { Connection } from "./connection.js";
import { Conversation } from "./conversation.js";
import { Layout } from "./layout.js";
import { Participant, PEOPLE, VIDEO } from "./participant.js";

// Measured: H.264 (OpenH264) costs about 10 % of a core less than VP8 for these four. A browser without it takes the
// next codec it has. `?codec=VP8` is there to measure it again.
const DEFAULT_CODEC = "H264";

const element = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

const meetingId = idFromAddress();
element("meeting-id").textContent = meetingId;
document.title = `${meetingId} · Demo meeting`;
element("count").textContent = `${PEOPLE.length} participants`;

const layout = new Layout(element("people"), query.get("layout"));
// "none": made for the peer connections only, so nothing of it can be heard directly and no device is opened for it.
const audio = new AudioContext({ sampleRate: 48_000, latencyHint: "balanced", sinkId: { type: "none" } });
const demoMeeting = { participants: [], audio, startedAt: null };
window.demoMeeting = demoMeeting;

const whiteboardLoaded = new Promise((resolve) => {
  const frame = element("whiteboard");
  // Before it is loaded, a frame holds an empty document, which is "complete" too.
  const loaded = () => {
    const { URL: url, readyState } = frame.contentDocument;
    return url.endsWith("/whiteboard.html") && readyState === "complete";
  };
  if (loaded()) {
    resolve();
  } else {
    frame.addEventListener("load", resolve, { once: true });
  }
});

const certificate = await RTCPeerConnection.generateCertificate({ name: "ECDSA", namedCurve: "P-256" });
const firstFrames = [];
const faults = new Map(); // participant's name -> why it is not connected

const senders = PEOPLE.map((person, index) => {
  const participant = new Participant(person, index, audio);
  const video = layout.addTile(person.name);
  firstFrames.push(firstFrame(video));
  const connection = new Connection(participant.stream, {
    codec: query.get("codec") ?? DEFAULT_CODEC,
    fps: VIDEO.fps,
    certificate,
    onRemote(stream) {
      video.srcObject = stream;
    },
    onState(connected, reason) {
      if (connected) {
        faults.delete(person.name);
      } else {
        faults.set(person.name, reason);
        console.error(`demo meeting: ${person.name}: ${reason}, trying again`);
      }
      showFaults();
    },
  });
  demoMeeting.participants.push({ name: person.name, connection, video });
  return participant;
});

// One timer for all four, so that their pictures arrive together and the page is composed once for all of them.
const drawAll = () => {
  const now = performance.now();
  senders.forEach((participant) => participant.draw(now));
};
setInterval(drawAll, 1000 / VIDEO.fps);
drawAll();

const conversation = new Conversation(
  senders.map(({ voice }) => voice),
  audio,
);
setInterval(() => {
  if (audio.state === "running") {
    conversation.plan();
  }
  layout.hear(
    demoMeeting.participants.map(({ connection }) => connection.level()),
    performance.now(),
  );
}, 100);

await Promise.all([audioRunning(), whiteboardLoaded, ...firstFrames]);
start();

function start() {
  demoMeeting.startedAt = performance.now();
  layout.start();
  runClock(demoMeeting.startedAt);
  console.log("START_RECORDING");
  after("seconds", () => console.log("END_RECORDING"));
  after("mute", () => senders.forEach(({ stream }) => stream.getTracks().forEach((track) => (track.enabled = false))));
  after("leave", () => {
    demoMeeting.participants.forEach(({ connection }) => connection.leave());
    element("count").textContent = "0 participants";
  });
}

// Does something as many seconds after the start as the address says, if it says so.
function after(name, act) {
  const seconds = Number(query.get(name));
  if (seconds > 0 && seconds < 2 ** 31 / 1000) {
    setTimeout(act, seconds * 1000);
  }
}

// Resolves when the video shows a picture that came by WebRTC. A connection that ends before it began leaves a black
// frame, which is not one.
function firstFrame(video) {
  return new Promise((resolve) => {
    const look = (_now, { rtpTimestamp }) =>
      rtpTimestamp === undefined ? video.requestVideoFrameCallback(look) : resolve();
    video.requestVideoFrameCallback(look);
  });
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

function runClock(from) {
  const clock = element("clock");
  const show = () => {
    const tenths = Math.floor((performance.now() - from + 1) / 100);
    const two = (n) => String(n).padStart(2, "0");
    const hours = Math.floor(tenths / 36_000);
    const minutes = `${two(Math.floor(tenths / 600) % 60)}:${two(Math.floor(tenths / 10) % 60)}.${tenths % 10}`;
    clock.textContent = hours > 0 ? `${hours}:${minutes}` : minutes;
    setTimeout(show, (tenths + 1) * 100 - (performance.now() - from)); // at the very change, without drift
  };
  show();
}

// Opened by a person in an ordinary browser, sound has to wait for a click. A recorder allows it from the start.
async function audioRunning() {
  if (audio.state === "running") {
    return;
  }
  const started = new Promise((resolve) => {
    audio.addEventListener("statechange", () => audio.state === "running" && resolve());
  });
  const hint = setTimeout(() => showBanner("Click anywhere to join with sound", "hint"), 1_000);
  document.addEventListener("pointerdown", () => {
    audio.resume();
    demoMeeting.participants.forEach(({ video }) => video.play().catch(() => {}));
  });
  await started;
  clearTimeout(hint);
  showFaults();
}

function showFaults() {
  if (faults.size === 0) {
    showBanner("");
  } else {
    showBanner(`Connection problem, trying again\n${[...faults].map(([name, why]) => `${name}: ${why}`).join("\n")}`);
  }
}

function showBanner(text, kind = "fault") {
  const banner = element("banner");
  banner.textContent = text;
  banner.hidden = text === "";
  banner.className = `banner ${kind}`;
}
