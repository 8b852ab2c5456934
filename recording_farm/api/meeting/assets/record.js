// The host's Record button: starts and stops a recording of this meeting through the farm's API.

const LOOK_EVERY = 2_000; // ms

export class Record {
  // `token`: the host's; it opens the recordings of this meeting and nothing else.
  constructor(button, meetingId, token, onFault) {
    Object.assign(this, { button, meetingId, token, onFault });
    this.recording = null; // as the API has it, while there is one
    this.busy = false;
    button.hidden = false;
    button.addEventListener("click", () => this.toggle());
    this.look();
    setInterval(() => this.look(), LOOK_EVERY);
    setInterval(() => this.show(), 500);
  }

  async toggle() {
    if (this.busy) {
      return;
    }
    this.busy = true;
    try {
      this.recording = this.recording
        ? await this.ask("PUT", `/${this.recording.id}`, { action: "stop" })
        : await this.ask("POST", "", { meeting_id: this.meetingId });
    } catch (error) {
      this.onFault(error.message);
    } finally {
      this.busy = false;
    }
    this.look();
  }

  async look() {
    try {
      const path = `/active-recording/${encodeURIComponent(this.meetingId)}`;
      const active = await this.ask("GET", path);
      this.recording = this.busy ? this.recording : active;
    } catch (error) {
      if (error.status === 404) {
        this.recording = null;
      }
    }
    this.show();
  }

  async ask(method, path, body) {
    const answer = await fetch(`/v2/recordings${path}`, {
      method,
      headers: { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
    const { data, error } = await answer.json();
    if (!answer.ok) {
      throw Object.assign(new Error(error.message), { status: answer.status });
    }
    return data;
  }

  show() {
    const status = this.recording?.status ?? "IDLE";
    const [state, text] = {
      INVOKED: ["starting", "Starting…"],
      RECORDING: ["recording", length(this.recording?.started_time)],
      PAUSED: ["recording", "Paused"],
    }[status] ?? ["idle", "Record"];
    this.button.dataset.state = state;
    this.button.querySelector("span").textContent = text;
    this.button.setAttribute("aria-label", state === "idle" ? "Record" : `Stop recording (${text})`);
  }
}

function length(startedTime) {
  const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(startedTime ?? new Date())) / 1000));
  const two = (n) => String(n).padStart(2, "0");
  return `${Math.floor(seconds / 60)}:${two(seconds % 60)}`;
}
