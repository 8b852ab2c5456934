// The connection to one other browser, by "perfect negotiation" (WebRTC 1.0, 10.7): either side may change what it
// sends at any time. Each side has transceivers of its own that only send; a recorder has none, so it only receives.

const CAMERA_BITRATE = 700_000;
const SCREEN_BITRATE = 2_000_000;

export class Peer {
  // `polite`: gives way when both make an offer at once. `streams`: what is sent from the start, as
  // { stream, tracks: { audio, video } } with null for what is off; null where nothing ever is.
  constructor({ polite, iceServers, sources, send, onStream, onConnected }) {
    Object.assign(this, { polite, send, onStream });
    this.making = false;
    this.ignoring = false;
    this.settling = false; // an answer is being taken: the next offer may come before that is done
    this.senders = new Map(); // the transceivers of each stream that is sent, by its id
    const connection = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    this.connection = connection;
    connection.onnegotiationneeded = () => this.offer();
    connection.onicecandidate = ({ candidate }) => candidate && send({ candidate: candidate.toJSON() });
    connection.ontrack = ({ streams }) => streams.forEach(onStream);
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === "failed") {
        connection.restartIce();
      } else if (connection.connectionState === "connected") {
        onConnected();
      }
    };
    sources.forEach((source) => this.add(source));
  }

  async offer() {
    try {
      this.making = true;
      await this.connection.setLocalDescription();
      this.send({ description: this.connection.localDescription.toJSON() });
    } catch (error) {
      this.complain(error);
    } finally {
      this.making = false;
    }
  }

  async hear({ description, candidate }) {
    const { connection } = this;
    try {
      if (description !== undefined) {
        const ready = !this.making && (connection.signalingState === "stable" || this.settling);
        this.ignoring = !this.polite && description.type === "offer" && !ready;
        if (this.ignoring) {
          return;
        }
        this.settling = description.type === "answer";
        await connection.setRemoteDescription(description);
        this.settling = false;
        if (description.type === "offer") {
          await connection.setLocalDescription();
          this.send({ description: connection.localDescription.toJSON() });
        }
      } else if (candidate !== undefined) {
        await connection.addIceCandidate(candidate);
      }
    } catch (error) {
      this.settling = false;
      if (!this.ignoring) {
        this.complain(error);
      }
    }
  }

  add({ stream, tracks, screen = false }) {
    const transceivers = Object.entries(tracks).map(([kind, track]) => {
      const maxBitrate = screen ? SCREEN_BITRATE : CAMERA_BITRATE;
      const transceiver = this.connection.addTransceiver(track ?? kind, {
        direction: "sendonly",
        streams: [stream],
        sendEncodings: kind === "video" ? [{ maxBitrate }] : undefined,
      });
      if (kind === "video") {
        preferH264(transceiver);
      }
      return [kind, transceiver];
    });
    this.senders.set(stream.id, new Map(transceivers));
  }

  replace(stream, kind, track) {
    this.senders.get(stream.id)?.get(kind)?.sender.replaceTrack(track).catch((error) => this.complain(error));
  }

  remove(stream) {
    this.senders.get(stream.id)?.forEach((transceiver) => transceiver.stop());
    this.senders.delete(stream.id);
  }

  // How loud the stream is that arrived just now, 0 to 1. 0 also when nothing arrives.
  level() {
    const levels = this.connection.getReceivers().map((receiver) => {
      const source = receiver.track.kind === "audio" ? receiver.getSynchronizationSources()[0] : undefined;
      const fresh = source && performance.timeOrigin + performance.now() - source.timestamp < 300;
      return fresh ? (source.audioLevel ?? 0) : 0;
    });
    return Math.max(0, ...levels);
  }

  close() {
    this.connection.close();
  }

  complain(error) {
    if (this.connection.signalingState !== "closed") {
      console.warn(`meeting: ${error.name}: ${error.message}`);
    }
  }
}

// Measured for the demo meeting: H.264 (OpenH264) costs less than VP8. A browser without it takes what it has.
function preferH264(transceiver) {
  const { codecs } = RTCRtpReceiver.getCapabilities("video");
  const wanted = ({ mimeType }) => mimeType.toLowerCase() === "video/h264";
  transceiver.setCodecPreferences([...codecs.filter(wanted), ...codecs.filter((codec) => !wanted(codec))]);
}
