// The connection to one other browser, by "perfect negotiation" (WebRTC 1.0, 10.7): either side may change what it
// sends at any time. Each side has its own transceivers, which only send; a recorder has none, so it only receives.

const CAMERA_BITRATE = 700_000;
const SCREEN_BITRATE = 2_000_000;

export class Peer {
  // `polite`: yields when both make an offer at once. `sources`: the streams to send from the start, as
  // { stream, tracks: { audio, video } } with null for a track that is off.
  constructor({ polite, iceServers, sources, send, onStream }) {
    Object.assign(this, { polite, send, onStream });
    this.making = false;
    this.ignoring = false;
    this.settling = false; // an answer is being applied; the next offer may arrive before that is done
    this.senders = new Map(); // the transceivers of each sent stream, by stream id
    const connection = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" });
    this.connection = connection;
    connection.onnegotiationneeded = () => this.offer();
    connection.onicecandidate = ({ candidate }) => candidate && send({ candidate: candidate.toJSON() });
    connection.ontrack = ({ streams }) => streams.forEach(onStream);
    connection.onconnectionstatechange = () => {
      if (connection.connectionState === "failed") {
        connection.restartIce();
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

  get connected() {
    return this.connection.connectionState === "connected";
  }

  // Takes new servers, for the next ICE restart: credentials of TURN servers expire.
  use(iceServers) {
    this.connection.setConfiguration({ ...this.connection.getConfiguration(), iceServers });
  }

  // Signaling is back, and messages may be lost: repeats an offer without an answer, and repairs a broken path.
  recover() {
    if (this.connection.signalingState === "have-local-offer") {
      this.send({ description: this.connection.localDescription.toJSON() });
    } else if (!this.connected) {
      this.connection.restartIce();
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

  // The audio level that arrives now, 0 to 1; 0 when nothing arrives.
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

// Measured for the demo meeting: H.264 (OpenH264) costs less than VP8. A browser without it uses its own codecs.
function preferH264(transceiver) {
  const { codecs } = RTCRtpReceiver.getCapabilities("video");
  const wanted = ({ mimeType }) => mimeType.toLowerCase() === "video/h264";
  transceiver.setCodecPreferences([...codecs.filter(wanted), ...codecs.filter((codec) => !wanted(codec))]);
}
