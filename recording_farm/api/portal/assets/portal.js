// Keeps a page up to date, and draws where the player is. Without this script the pages work as well; one loads
// them again to see what is new.
"use strict";

const REFRESH_AFTER = 200; // ms after an event; several come at once
const REFRESH_AGAIN = 3000; // what follows an event without one of its own: a webhook was told, a log is there
const RETRY_AFTER = 10000;
const ANSWER_WITHIN = 70000; // a little more than what the server gives itself
const AWAY = new Set([429, 502, 503, 504]); // for a moment: too many requests, or Redis or the farm is away

// --- Times and lengths -----------------------------------------------------------------------------------

const inWords = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function writeTimes(part) {
  for (const time of part.querySelectorAll("time[datetime]")) {
    time.title = time.dateTime;
    time.textContent = inWords.format(new Date(time.dateTime));
  }
}

function lengthInWords(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

const since = new WeakMap(); // when each running length came, by this page's own clock: the visitor's may be wrong

function writeLengths() {
  const present = performance.now();
  for (const running of document.querySelectorAll("[data-running]")) {
    if (!since.has(running)) since.set(running, present);
    const more = (present - since.get(running)) / 1000;
    running.textContent = lengthInWords(Number(running.dataset.running) + more);
  }
}

// --- The live parts of a page ----------------------------------------------------------------------------

const received = new Map(); // the HTML of each live part as the server sent it last, by its id

function remember() {
  for (const part of document.querySelectorAll("[data-live]")) received.set(part.id, part.outerHTML);
}

function renew(fresh) {
  const part = document.getElementById(fresh.id);
  const html = fresh.outerHTML;
  if (!part || received.get(fresh.id) === html) return;
  // What plays goes on playing; its address has a new signature each time.
  if (part.querySelector("video, audio") && fresh.querySelector("video, audio")) return;
  // Nobody's hand is taken off what they are about to press or have opened.
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const opened = [...part.querySelectorAll("details[open]")].map((details) => details.id).filter(Boolean);
  received.set(fresh.id, html);
  part.replaceWith(document.adoptNode(fresh));
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  if (part.tagName === "DETAILS" && part.open) fresh.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  writeTimes(fresh);
}

let refreshing = false;
let stale = false; // something has changed since the refresh that is under way asked
let retry;

async function refresh() {
  // Not where the browser is: after a form that was refused, that can be sent to and not be read.
  const { address } = document.body.dataset;
  if (!address || document.hidden) return;
  stale = true;
  if (refreshing) return;
  refreshing = true;
  try {
    while (stale) {
      stale = false;
      await renewFrom(address);
    }
  } catch {
    clearTimeout(retry);
    retry = setTimeout(refresh, RETRY_AFTER); // the farm is away for a moment
  } finally {
    refreshing = false;
  }
}

async function renewFrom(address) {
  const answer = await fetch(address, {
    headers: { Accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN),
  });
  if (answer.redirected) return location.replace(address); // the session has ended
  if (!answer.ok) {
    if (AWAY.has(answer.status)) throw new Error(`the farm answers ${answer.status}`);
    return;
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const fresh of page.querySelectorAll("[data-live]")) renew(fresh);
  writeLengths();
  watchPlayer();
}

let ticks = 0;

// Each second. What has no events of its own is looked at again after so many.
function tick() {
  writeLengths();
  const seconds = Number(document.querySelector("[data-poll]")?.dataset.poll ?? 0);
  if (seconds && ++ticks % seconds === 0) refresh();
}

let soon, again;

function refreshSoon() {
  clearTimeout(soon);
  clearTimeout(again);
  soon = setTimeout(refresh, REFRESH_AFTER);
  again = setTimeout(refresh, REFRESH_AGAIN);
}

// --- The event stream ------------------------------------------------------------------------------------

let events;

function follow() {
  const wanted = document.body.dataset.follow;
  if (!wanted || document.hidden || events) return;
  events = new EventSource("/v2/events");
  events.addEventListener("recording.statusUpdate", (event) => {
    if (wanted === "all" || JSON.parse(event.data).id === wanted) refreshSoon();
  });
  events.addEventListener("farm.gap", refreshSoon);
  // What has changed since this page was made, and before the stream was there, comes in no event.
  events.addEventListener("open", refreshSoon);
  events.addEventListener("error", () => {
    if (events?.readyState !== EventSource.CLOSED) return; // it connects again by itself
    unfollow();
    setTimeout(() => { follow(); refresh(); }, RETRY_AFTER);
  });
}

function unfollow() {
  events?.close();
  events = undefined;
}

// A browser has few connections to one server, and a page that nobody sees needs none.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return unfollow();
  follow();
  refresh();
});
addEventListener("pagehide", unfollow);
addEventListener("pageshow", (event) => { if (event.persisted) { follow(); refresh(); } });

// --- The live picture ------------------------------------------------------------------------------------

function renewPicture() {
  const picture = document.querySelector("img[data-again]");
  if (!picture || document.hidden || !picture.complete) return;
  picture.src = `${picture.src.split("?")[0]}?t=${Date.now()}`;
}

// --- Player and timeline ---------------------------------------------------------------------------------

function player() {
  return document.querySelector("#player");
}

// Where a moment of the file is on the timeline, which has the gaps in it too.
function onTimeline(line, time) {
  const takes = [...line.querySelectorAll("rect.take")].map((take) => take.dataset);
  const take = takes.filter((each) => Number(each.at) <= time).pop();
  if (!take) return 0;
  return Math.min(Number(take.start) + time - Number(take.at), Number(take.end));
}

function moveHead() {
  const line = document.querySelector("svg.timeline[data-player]");
  const playing = player();
  if (!line || !playing) return;
  const place = onTimeline(line, playing.currentTime) / Number(line.dataset.seconds);
  line.querySelector(".head").setAttribute("x", String(place * 1000 - 1.5));
}

function watchPlayer() {
  const playing = player();
  if (!playing || playing.dataset.watched) return;
  playing.dataset.watched = "yes";
  for (const name of ["timeupdate", "seeking", "loadedmetadata"]) playing.addEventListener(name, moveHead);
  moveHead();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("svg.timeline[data-player] a[data-at]");
  const playing = player();
  if (!link || !playing) return;
  event.preventDefault();
  const take = link.querySelector("rect.take");
  let time = Number(link.dataset.at);
  // By the keyboard, a link leads to the beginning of its take; by hand to the very place.
  if (take && event.detail > 0) {
    const { left, width } = take.getBoundingClientRect();
    const share = width ? Math.min(Math.max((event.clientX - left) / width, 0), 1) : 0;
    time += share * (Number(take.dataset.end) - Number(take.dataset.start));
  }
  playing.currentTime = time;
});

// --- Copying ---------------------------------------------------------------------------------------------

for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = false;

document.addEventListener("focusin", ({ target }) => {
  if (target.matches?.(".copy input")) target.select();
});

document.addEventListener("click", async ({ target }) => {
  const button = target.closest?.("button[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  const copied = await copy(field);
  button.textContent = copied ? "Copied" : "Press Ctrl+C";
  setTimeout(() => { button.textContent = "Copy"; }, 3000);
});

// Browsers have a clipboard only over https and on localhost; elsewhere the old command works.
async function copy(field) {
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    return document.execCommand("copy");
  }
}

// --- At the beginning ------------------------------------------------------------------------------------

remember();
writeTimes(document);
writeLengths();
watchPlayer();
follow();
setInterval(tick, 1000);
const picture = document.querySelector("img[data-again]");
setInterval(renewPicture, 1000 * Number(picture?.dataset.again ?? 2));

