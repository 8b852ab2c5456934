// Keeps a page up to date and draws the play head. The pages also work without this script, and then need a
// reload to show what is new.
"use strict";

const REFRESH_AFTER = 200; // ms after an event; several come at once
const REFRESH_AGAIN = 3000; // for changes that have no event: a webhook delivery, a log
const RETRY_AFTER = 10000;
const ANSWER_WITHIN = 70000; // a little more than what the server gives itself
const AWAY = new Set([429, 502, 503, 504]); // for a moment: too many requests, or Redis or the farm is away

// --- Times and lengths -----------------------------------------------------------------------------------

const inWords = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const timeZone = inWords.resolvedOptions().timeZone;

function writeTimes(part) {
  for (const zone of part.querySelectorAll("[data-zone]")) {
    zone.textContent = zone.textContent.replace("UTC", timeZone);
  }
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

// The arrival of each running length, by a monotonic clock: the visitor's wall clock may be wrong.
const since = new WeakMap();

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
  // Keep a player that is there: its address only has another signature.
  if (part.querySelector("video, audio") && fresh.querySelector("video, audio")) return;
  // Keep the focus, and the details that are open.
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const opened = [...part.querySelectorAll("details[open]")].map((details) => details.id).filter(Boolean);
  received.set(fresh.id, html);
  part.replaceWith(document.adoptNode(fresh));
  for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  if (part.tagName === "DETAILS" && part.open) fresh.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  writeTimes(fresh);
  showCopyButtons(fresh);
}

let refreshing = false;
let stale = false; // something changed after the running refresh sent its request
let retry;

async function refresh() {
  // Not location.href: after a rejected form that address only takes POST.
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

// Each second; data-poll is the number of seconds between refreshes of a page without events.
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
  // No event tells the changes between this page and the start of the stream.
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

// A browser limits its connections to one server, so a hidden page closes its stream.
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

// The position of a moment of the file on the timeline, which includes the gaps.
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
  // With the keyboard a link seeks to the start of its take, with the pointer to the exact position.
  if (take && event.detail > 0) {
    const { left, width } = take.getBoundingClientRect();
    const share = width ? Math.min(Math.max((event.clientX - left) / width, 0), 1) : 0;
    time += share * (Number(take.dataset.end) - Number(take.dataset.start));
  }
  playing.currentTime = time;
});

// --- The message after a command --------------------------------------------------------------------------

const MESSAGE_SECONDS = 6;

function showMessage() {
  const message = document.querySelector('.notice[role="status"]');
  const address = new URL(location.href);
  if (address.searchParams.has("done")) {
    // So that a reload, or the copied address, does not show it again.
    address.searchParams.delete("done");
    history.replaceState(history.state, "", address);
  }
  if (message) setTimeout(() => message.classList.add("over"), 1000 * MESSAGE_SECONDS);
}

// --- Copy buttons ----------------------------------------------------------------------------------------

const COPY_BUTTONS = "[data-copy], [data-copy-from]"; // the text, or the id of an element with it

function showCopyButtons(part) {
  for (const button of part.querySelectorAll(COPY_BUTTONS)) button.hidden = false;
}

document.addEventListener("focusin", ({ target }) => {
  if (target.matches?.(".copy input")) target.select();
});

document.addEventListener("click", async ({ target }) => {
  const button = target.closest?.(COPY_BUTTONS);
  if (!button) return;
  const source = document.getElementById(button.dataset.copyFrom ?? "");
  const label = button.textContent;
  const copied = await copy(source ? source.value ?? source.textContent : button.dataset.copy);
  button.textContent = copied ? "Copied" : "Press Ctrl+C";
  if (!copied) source?.select?.();
  setTimeout(() => { button.textContent = label; }, 2000);
});

// Browsers have a clipboard only over https and on localhost; elsewhere the old command works.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.body.appendChild(document.createElement("textarea"));
    field.value = text;
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    return copied;
  }
}

// --- The filter ------------------------------------------------------------------------------------------

// The server takes its days as those of this time zone.
document.querySelector(".filters")?.addEventListener("submit", ({ target }) => {
  const { from, to, zone } = target.elements;
  zone.value = timeZone;
  zone.disabled = !from.value && !to.value;
});

// --- At the beginning ------------------------------------------------------------------------------------

remember();
showMessage();
writeTimes(document);
showCopyButtons(document);
writeLengths();
watchPlayer();
follow();
setInterval(tick, 1000);
const picture = document.querySelector("img[data-again]");
setInterval(renewPicture, 1000 * Number(picture?.dataset.again ?? 2));

