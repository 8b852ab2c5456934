// Before the meeting: name, camera, microphone and a preview.

import { deviceText } from "./devices.js";
import { Tile } from "./tile.js";

const element = (id) => document.getElementById(id);
const KINDS = { audio: "audioinput", video: "videoinput" };
const NAME_KEY = "meeting-name";

// Resolves to the name when the person joins; `media` then holds their selection.
export async function lobby(media) {
  const tile = new Tile({ own: true });
  element("preview").replaceChildren(tile.element);
  element("name").value = localStorage.getItem(NAME_KEY) ?? "";
  const show = () => {
    tile.name(element("name").value);
    tile.media(media.state());
    tile.show(media.camera);
    for (const kind of ["audio", "video"]) {
      element(`lobby-${kind}`).setAttribute("aria-pressed", String(media.is(kind)));
    }
  };
  const errors = { audio: null, video: null };
  const attempt = (kind, act) => async () => {
    try {
      await act();
      errors[kind] = null;
    } catch (error) {
      errors[kind] = error;
    }
    const text = deviceText(errors);
    element("lobby-hint").textContent = text && `${text} You can still join.`;
    await list(media);
    show();
  };
  for (const kind of ["audio", "video"]) {
    const select = element(`${kind}-device`);
    element(`lobby-${kind}`).onclick = attempt(kind, () => media.turn(kind, !media.is(kind)));
    select.onchange = attempt(kind, () => media.choose(kind, select.value));
  }
  element("name").oninput = show;
  show();
  element("name").focus();
  // One permission request for each: a person who refuses the camera may still allow the microphone.
  for (const kind of ["audio", "video"]) {
    attempt(kind, () => media.turn(kind, true))();
  }

  return new Promise((resolve) => {
    element("lobby-form").onsubmit = (event) => {
      event.preventDefault();
      const name = printable(element("name").value);
      if (name !== "") {
        localStorage.setItem(NAME_KEY, name);
        tile.show(null);
        resolve(name);
      }
    };
  });
}

async function list(media) {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  for (const kind of ["audio", "video"]) {
    const used = media.track(kind)?.getSettings().deviceId;
    const options = devices
      .filter((device) => device.kind === KINDS[kind] && device.deviceId !== "")
      .map((device, i) => new Option(device.label || `Device ${i + 1}`, device.deviceId, false, device.deviceId === used));
    element(`${kind}-device`).replaceChildren(...(options.length ? options : [new Option("None", "")]));
  }
}

// Without invisible characters; the server refuses them in a name.
const printable = (text) => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "").replace(/\p{Zs}+/gu, " ").trim();
