// The buttons below the meeting, its dialogs and its banner. All of it works by mouse and by keyboard.

const element = (id) => document.getElementById(id);
const BANNER_SECONDS = 6;
const LABELS = { // of buttons whose label says what a click does: [off, on]
  audio: ["Unmute", "Mute"],
  video: ["Start camera", "Stop camera"],
  share: ["Share screen", "Stop sharing"],
  "share-page": ["Open page", "Close page"],
};

export class Controls {
  // `act`: the action of each button, by its id. `say(error)`: the sentence for an action that failed, or "".
  constructor(act, say) {
    for (const [id, does] of Object.entries(act)) {
      element(id).onclick = async () => {
        try {
          await does();
        } catch (error) {
          showBanner(say(error), { seconds: BANNER_SECONDS });
        }
      };
    }
  }

  // `on`: the buttons that are on, by id. A button has either a label that changes or `aria-pressed`, never both:
  // "Mute, pressed" would say the opposite.
  show(on) {
    for (const [id, state] of Object.entries(on)) {
      const button = element(id);
      button.dataset.on = String(state);
      if (LABELS[id] === undefined) {
        button.setAttribute("aria-pressed", String(state));
      } else {
        button.querySelector("span").textContent = LABELS[id][Number(state)];
      }
    }
  }
}

// Asks for the address of a page; resolves to null when the person cancels.
export function askForPage() {
  return ask("page-dialog").then((agreed) => (agreed ? element("page-url").value : null));
}

// Asks before the meeting ends for everyone; resolves to whether it should.
export function askToEnd(recording) {
  element("end-text").textContent = recording
    ? "Everyone leaves the meeting, and the recording stops."
    : "Everyone leaves the meeting.";
  return ask("end-dialog");
}

// Shows an address to copy by hand, where a page may not write to the clipboard.
export function showAddress(address) {
  element("invite-url").value = address;
  const closed = ask("invite-dialog");
  element("invite-url").select();
  return closed;
}

// Opens a dialog with a form and, except for one that only tells something, a cancel button.
function ask(id) {
  const dialog = element(id);
  dialog.showModal();
  return new Promise((resolve) => {
    let agreed = false;
    dialog.onclose = () => resolve(agreed);
    dialog.querySelectorAll(".cancel").forEach((button) => (button.onclick = () => dialog.close()));
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      agreed = true;
      dialog.close();
    };
  });
}

let fading = null;

// With `seconds` it disappears by itself; a `hint` is not an error.
export function showBanner(text, { seconds = 0, hint = false } = {}) {
  clearTimeout(fading);
  element("banner").textContent = text;
  element("banner").hidden = text === "";
  element("banner").classList.toggle("hint", hint);
  if (seconds > 0) {
    fading = setTimeout(() => showBanner(""), seconds * 1000);
  }
}

// Copies the address of this meeting, without any secret.
export async function invite() {
  const address = location.origin + location.pathname;
  try {
    await navigator.clipboard.writeText(address);
  } catch {
    return showAddress(address); // not a secure page, or not allowed
  }
  showBanner("Link copied. Anyone who has it can join.", { seconds: BANNER_SECONDS, hint: true });
}
