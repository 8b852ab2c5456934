// This person's camera, microphone and screen. Each stream stays the same object for the whole meeting, because the
// others know it by its id; only its tracks change.

const VIDEO = { width: { ideal: 640 }, height: { ideal: 360 }, frameRate: { ideal: 24, max: 30 } };
const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const SCREEN = { video: { frameRate: { ideal: 15, max: 30 } }, audio: true };

export class Media {
  // `onTrack(stream, kind, track)`: a track of the camera's stream starts, or ends (null).
  constructor({ onTrack = () => {}, onScreenEnd = () => {} } = {}) {
    Object.assign(this, { onTrack, onScreenEnd });
    this.camera = new MediaStream();
    this.screen = null;
    this.devices = { audio: undefined, video: undefined }; // ids of the selected devices
  }

  track(kind) {
    return this.camera.getTracks().find((track) => track.kind === kind) ?? null;
  }

  is(kind) {
    return this.track(kind)?.enabled ?? false;
  }

  // Opens or closes a device. A muted microphone stays open, so that the first syllable after unmuting is not lost.
  async turn(kind, on) {
    const track = this.track(kind);
    if (kind === "audio" && track !== null) {
      track.enabled = on;
    } else if (!on) {
      this.put(kind, null);
    } else if (track === null) {
      requireDevices();
      const exact = this.devices[kind] ? { deviceId: { exact: this.devices[kind] } } : {};
      const wanted = { ...(kind === "video" ? VIDEO : AUDIO), ...exact };
      const opened = await navigator.mediaDevices.getUserMedia({ [kind]: wanted });
      this.put(kind, opened.getTracks()[0]);
    }
  }

  // Selects another device, and switches to it when one of its kind is open.
  async choose(kind, deviceId) {
    this.devices[kind] = deviceId;
    if (this.track(kind) !== null) {
      const on = this.is(kind);
      this.put(kind, null);
      await this.turn(kind, true);
      await this.turn(kind, on);
    }
  }

  put(kind, track) {
    const before = this.track(kind);
    if (before !== null) {
      before.stop();
      this.camera.removeTrack(before);
    }
    if (track !== null) {
      this.camera.addTrack(track);
      track.onended = () => this.put(kind, null); // unplugged
    }
    this.onTrack(this.camera, kind, track);
  }

  async share() {
    this.screen = await navigator.mediaDevices.getDisplayMedia(SCREEN);
    // The browser's own "stop sharing" ends it too.
    this.screen.getVideoTracks()[0].onended = () => this.onScreenEnd();
    return this.screen;
  }

  unshare() {
    this.screen?.getTracks().forEach((track) => track.stop());
    this.screen = null;
  }

  close() {
    this.unshare();
    this.put("audio", null);
    this.put("video", null);
  }

  // The state that the others get.
  state() {
    return {
      audio: this.is("audio"),
      video: this.is("video"),
      camera: this.camera.id,
      screen: this.screen?.id ?? null,
    };
  }

  // The streams for a peer connection to send.
  sources() {
    const camera = { stream: this.camera, tracks: { audio: this.track("audio"), video: this.track("video") } };
    return this.screen === null ? [camera] : [camera, screenSource(this.screen)];
  }
}

export const canShare = () => navigator.mediaDevices?.getDisplayMedia !== undefined;

function requireDevices() {
  if (navigator.mediaDevices === undefined) {
    throw new DOMException("this page is not secure", "InsecureError");
  }
}

export function screenSource(stream) {
  const tracks = Object.fromEntries(stream.getTracks().map((track) => [track.kind, track]));
  return { stream, tracks, screen: true };
}
