// The connection to the room: messages as objects. People use a WebSocket; the recorder, whose browser cannot open one
// through its gateway, reads an event stream and sends with POST. Both reconnect with a token that keeps their id.

const SILENCE = 10_000; // ms; the server sends a heartbeat every 3 s
const RETRY = 1_500; // ms
const LEFT = 1000; // the code of a WebSocket that is closed on purpose
const BROKEN = 4001; // and of one that is closed to reconnect

class Channel {
  constructor({ onMessage, onLost }) {
    Object.assign(this, { onMessage, onLost });
    this.over = false; // never reconnects
    this.resume = null; // the token with which it reconnects
  }

  take(text) {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.cut(), SILENCE);
    const message = JSON.parse(text);
    if (message.type === "beat") {
      this.send({ type: "beat" });
      return;
    }
    this.resume = message.resume ?? this.resume;
    this.over ||= message.type === "refused" || message.type === "ended";
    this.onMessage(message);
  }

  lost() {
    clearTimeout(this.watch);
    if (!this.over) {
      this.onLost();
      this.retry = setTimeout(() => this.open(), RETRY);
    }
  }

  close() {
    this.over = true;
    clearTimeout(this.retry);
    this.cut(LEFT);
  }
}

export class PeopleChannel extends Channel {
  // `join()` makes the first message.
  constructor(meetingId, join, listener) {
    super(listener);
    this.join = join;
    this.url = `${location.origin.replace(/^http/, "ws")}/meet-rooms/people/${encodeURIComponent(meetingId)}`;
    this.open();
  }

  open() {
    const socket = new WebSocket(this.url);
    this.socket = socket;
    let lost = false;
    const ended = () => {
      if (!lost && socket === this.socket) {
        lost = true;
        this.lost();
      }
    };
    this.cut = (code = BROKEN) => {
      socket.close(code);
      ended(); // a closing handshake over a broken connection would take a minute
    };
    socket.onopen = () => socket.send(JSON.stringify({ ...this.join(), ...(this.resume && { resume: this.resume }) }));
    socket.onmessage = ({ data }) => !lost && this.take(data);
    socket.onclose = ended;
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify(message));
    }
  }
}

export class RecorderChannel extends Channel {
  constructor(meetingId, token, listener) {
    super(listener);
    this.url = `/meet-rooms/recorder/${encodeURIComponent(meetingId)}`;
    this.token = token;
    this.sending = Promise.resolve(); // one after the other: offers and candidates must stay in sequence
    this.open();
  }

  async open() {
    const abort = new AbortController();
    this.cut = () => abort.abort();
    try {
      const answer = await fetch(this.url, {
        method: "POST",
        headers: bearer(this.token),
        body: JSON.stringify({ resume: this.resume }),
        signal: abort.signal,
        credentials: "omit", // else the browser asks for a name and a password after a 401
      });
      if (answer.ok) {
        await this.read(answer.body);
      } else if (answer.status < 500) {
        const { error } = await answer.json();
        this.over = true;
        this.onMessage({ type: "refused", message: error.message });
      }
    } catch {
      // The connection broke; `lost` handles that.
    }
    this.lost();
  }

  async read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const lines = (text + part.value).split(/\r?\n/);
      text = lines.pop();
      for (const line of lines.filter((each) => each.startsWith("data: "))) {
        this.take(line.slice("data: ".length));
      }
    }
  }

  take(text) {
    const message = JSON.parse(text);
    if (message.type === "secret") {
      this.secret = message.secret;
    } else {
      super.take(text);
    }
  }

  send(message) {
    const request = { method: "POST", headers: bearer(this.secret), body: JSON.stringify(message) };
    this.sending = this.sending.then(() => fetch("/meet-rooms/messages", request)).catch(() => {});
  }
}

const bearer = (token) => ({ Authorization: `Bearer ${token}` });
