// The way to the room and back: messages as objects. People have a WebSocket; the recorder, whose browser cannot
// open one through its gateway, has a stream of events and sends with POST. Either is opened again when it breaks.

const SILENCE = 10_000; // ms; the server gives a sign of life every 3 s
const RETRY = 1_500;

class Channel {
  constructor({ onMessage, onLost }) {
    Object.assign(this, { onMessage, onLost });
    this.over = false; // nothing is opened again
  }

  take(text) {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.cut(), SILENCE);
    const message = JSON.parse(text);
    if (message.type === "beat") {
      this.send({ type: "beat" });
      return;
    }
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
    this.cut();
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
    this.cut = () => {
      socket.close();
      ended(); // a closing handshake over a cut connection would take a minute
    };
    socket.onopen = () => socket.send(JSON.stringify(this.join()));
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
    this.sending = Promise.resolve(); // one after the other: offers and candidates have an order
    this.open();
  }

  async open() {
    const abort = new AbortController();
    this.cut = () => abort.abort();
    try {
      const answer = await fetch(this.url, {
        method: "POST",
        headers: bearer(this.token),
        signal: abort.signal,
        credentials: "omit", // else the browser itself asks for a name and a password when it is refused
      });
      if (answer.ok) {
        await this.read(answer.body);
      } else if (answer.status < 500) {
        const { error } = await answer.json();
        this.over = true;
        this.onMessage({ type: "refused", message: error.message });
      }
    } catch {
      // The connection broke, which is told to nobody but `lost`.
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
