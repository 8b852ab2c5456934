// The buttons below the meeting, which are all there is by mouse and by keyboard alike.

import { reason } from "./lobby.js";

const element = (id) => document.getElementById(id);
const BANNER_SECONDS = 6;

export class Controls {
  // `act`: what each button does, by its id; it may fail, which is shown.
  constructor(act) {
    for (const [id, does] of Object.entries(act)) {
      element(id).onclick = async () => {
        try {
          await does();
        } catch (error) {
          showBanner(reason(error), BANNER_SECONDS);
        }
      };
    }
  }

  // `pressed`: which buttons are on, by their ids.
  show(pressed) {
    for (const [id, on] of Object.entries(pressed)) {
      element(id).setAttribute("aria-pressed", String(on));
    }
    element("audio").querySelector("span").textContent = pressed.audio ? "Mute" : "Unmute";
    element("share").querySelector("span").textContent = pressed.share ? "Stop sharing" : "Share screen";
    element("share-page").querySelector("span").textContent = pressed["share-page"] ? "Close page" : "Open page";
  }
}

// Asks for the address of a page; resolves to null when there is to be none.
export function askForPage() {
  const dialog = element("page-dialog");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(null);
    element("page-cancel").onclick = () => dialog.close();
    element("page-form").onsubmit = (event) => {
      event.preventDefault();
      resolve(element("page-url").value);
      dialog.close();
    };
  });
}

let fading = null;

// With `seconds` it goes by itself.
export function showBanner(text, seconds = 0) {
  clearTimeout(fading);
  element("banner").textContent = text;
  element("banner").hidden = text === "";
  if (seconds > 0) {
    fading = setTimeout(() => showBanner(""), seconds * 1000);
  }
}
