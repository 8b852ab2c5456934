// The host's buttons for the recording: start, pause, resume and stop through the farm's API, and where the file is.

const LOOK_EVERY = 2_000; // ms
const FINISHED = new Set(["UPLOADED", "ERRORED"]);

export class Record {
  // `elements`: the record button, the pause button, and the places for a text about a stopped recording.
  // `token`: the host's; it gives access to the recordings of this meeting only.
  constructor({ record, pause, notices }, meetingId, token, onFault) {
    Object.assign(this, { record, pause, notices, meetingId, token, onFault });
    this.recording = null; // the running recording, as the API describes it
    this.stopped = null; // the last one, until its file is ready
    this.busy = false;
    record.hidden = false;
    record.addEventListener("click", () => this.act(() => (this.recording ? this.change("stop") : this.start())));
    pause.addEventListener("click", () =>
      this.act(() => this.change(this.recording?.status === "PAUSED" ? "resume" : "pause")),
    );
    this.look();
    setInterval(() => this.look(), LOOK_EVERY);
    setInterval(() => this.show(), 500);
  }

  start() {
    return this.ask("POST", "/v2/recordings", { meeting_id: this.meetingId });
  }

  change(action) {
    return this.ask("PUT", `/v2/recordings/${this.recording.id}`, { action });
  }

  async act(request) {
    if (this.busy) {
      return;
    }
    this.busy = true;
    try {
      await request();
    } catch (error) {
      this.onFault(error.message);
    } finally {
      this.busy = false;
    }
    this.look();
  }

  async look() {
    try {
      const path = `/meet-rooms/active-recording/${encodeURIComponent(this.meetingId)}`;
      const { recording } = await this.ask("GET", path);
      if (this.busy) {
        return;
      }
      if (this.recording !== null && recording === null) {
        this.stopped = this.recording;
      }
      this.recording = recording;
      if (this.stopped !== null && !FINISHED.has(this.stopped.status)) {
        this.stopped = await this.ask("GET", `/v2/recordings/${this.stopped.id}`);
      }
    } catch (error) {
      if (error.status === 404) {
        this.stopped = null; // it was deleted
      }
    }
    this.show();
  }

  async ask(method, path, body) {
    const answer = await fetch(path, {
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
    // The accessible name starts with the visible text. The time is drawn by the style sheet: a name that changes
    // each second disturbs screen readers.
    const [state, text, name, time = ""] = {
      INVOKED: ["starting", "Starting…", "Starting… Stop recording"],
      RECORDING: ["recording", "Stop", "Stop recording", ` ${length(this.recording?.started_time)}`],
      PAUSED: ["recording", "Stop", "Stop recording"],
    }[status] ?? ["idle", "Record", "Record"];
    this.record.dataset.state = state;
    this.record.setAttribute("aria-label", name);
    const shown = this.record.querySelector("span");
    shown.textContent = text;
    shown.dataset.time = time;
    this.pause.hidden = status !== "RECORDING" && status !== "PAUSED";
    this.pause.querySelector("span").textContent = status === "PAUSED" ? "Resume" : "Pause";
    this.notices.forEach((notice) => showStopped(notice, this.recording === null ? this.stopped : null));
  }
}

// Says where a stopped recording is. The file's link and the portal's page are only for the host, who has the token.
function showStopped(notice, recording) {
  const shown = recording === null ? "" : `${recording.id} ${recording.status}`;
  if (notice.dataset.shown === shown) {
    return;
  }
  notice.dataset.shown = shown;
  notice.hidden = recording === null;
  if (recording === null) {
    return;
  }
  const details = link("Show it in the portal", `/recordings/${recording.id}`);
  if (recording.status === "ERRORED") {
    notice.replaceChildren(`The recording failed: ${recording.error?.message ?? "unknown error"}. `, details);
  } else if (recording.status === "UPLOADED") {
    const file = recording.download_url ? [link("Download", recording.download_url), " · "] : [];
    notice.replaceChildren("The recording is ready. ", ...file, details);
  } else {
    notice.replaceChildren("The recording has stopped. Its file is being prepared. ", details);
  }
}

function link(text, address) {
  const element = document.createElement("a");
  Object.assign(element, { textContent: text, href: address, target: "_blank", rel: "noopener" });
  return element;
}

function length(startedTime) {
  const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(startedTime ?? new Date())) / 1000));
  const two = (n) => String(n).padStart(2, "0");
  return `${Math.floor(seconds / 60)}:${two(seconds % 60)}`;
}
