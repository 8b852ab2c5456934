// Before the meeting: name, camera, microphone, and how one looks.

import { Tile } from "./tile.js";

const element = (id) => document.getElementById(id);
const KINDS = { audio: "audioinput", video: "videoinput" };
const NAME_KEY = "meeting-name";

// Resolves to the name when the person joins; what they chose is in `media` then.
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
  const attempt = (act) => async () => {
    try {
      await act();
      element("lobby-hint").textContent = "";
    } catch (error) {
      element("lobby-hint").textContent = reason(error);
    }
    await list(media);
    show();
  };
  for (const kind of ["audio", "video"]) {
    const select = element(`${kind}-device`);
    element(`lobby-${kind}`).onclick = attempt(() => media.turn(kind, !media.is(kind)));
    select.onchange = attempt(() => media.choose(kind, select.value));
  }
  element("name").oninput = show;
  show();
  element("name").focus();
  // One question for each: who refuses the camera may still want to be heard.
  for (const kind of ["audio", "video"]) {
    attempt(() => media.turn(kind, true))();
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
  const devices = await navigator.mediaDevices.enumerateDevices();
  for (const kind of ["audio", "video"]) {
    const used = media.track(kind)?.getSettings().deviceId;
    const options = devices
      .filter((device) => device.kind === KINDS[kind] && device.deviceId !== "")
      .map((device, i) => new Option(device.label || `Device ${i + 1}`, device.deviceId, false, device.deviceId === used));
    element(`${kind}-device`).replaceChildren(...(options.length ? options : [new Option("None", "")]));
  }
}

// What cannot be seen is no part of a name; the meeting would refuse it.
const printable = (text) => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "").replace(/\p{Zs}+/gu, " ").trim();

export function reason(error) {
  return (
    {
      NotAllowedError: "The browser does not allow it; look at its settings for this page.",
      NotFoundError: "There is no such device. You can join without.",
      NotReadableError: "Another program uses the device.",
    }[error.name] ?? error.message
  );
}
