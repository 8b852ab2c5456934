// A real WebRTC connection inside the page: one peer sends a participant's stream, the other receives it.
// No server of any kind takes part: both peers are here, so their offers and candidates are handed over directly.
//
// The machine needs an address and a default route, though nothing is ever sent over it: without them Chromium finds
// no candidates at all (tried: with the loopback device alone it never connects; in an isolated bridge it does).

const VIDEO_BITRATE = 250_000;
const AUDIO_BITRATE = 32_000;
const CONNECT_TIMEOUT = 6_000; // ms until an attempt counts as failed
const GRACE = 3_000; // ms for a "disconnected" connection to come back by itself
const RETRY = 1_000; // ms between two attempts

export class Connection {
  // `codec` is a preference ("VP8"); `onState(connected, error)` hears of every change.
  constructor(stream, { codec, fps, certificate, onRemote, onState }) {
    Object.assign(this, { stream, codec, fps, certificate, onRemote, onState });
    this.attempts = 0;
    this.sender = null;
    this.receiver = null;
    this.open();
  }

  async open() {
    this.attempts += 1;
    const config = { iceServers: [], bundlePolicy: "max-bundle", certificates: [this.certificate] };
    const sender = new RTCPeerConnection(config);
    const receiver = new RTCPeerConnection(config);
    Object.assign(this, { sender, receiver });

    this.deadline = setTimeout(() => this.fail("no connection in time"), CONNECT_TIMEOUT);
    for (const [peer, other] of [
      [sender, receiver],
      [receiver, sender],
    ]) {
      peer.onicecandidate = ({ candidate }) => {
        if (candidate !== null && other.signalingState !== "closed") {
          other.addIceCandidate(candidate).catch((error) => this.fail(error.message, sender));
        }
      };
      peer.onconnectionstatechange = () => this.watch(sender, receiver);
    }
    // Both tracks come in one stream, which keeps lips and voice together; it is whole with the last of them.
    receiver.ontrack = ({ streams }) => {
      if (streams[0].getTracks().length === this.stream.getTracks().length) {
        this.onRemote(streams[0]);
      }
    };

    try {
      this.addTracks(sender);
      await sender.setLocalDescription();
      await receiver.setRemoteDescription(sender.localDescription);
      await receiver.setLocalDescription();
      await sender.setRemoteDescription({ type: "answer", sdp: thrifty(receiver.localDescription.sdp) });
      // A peer that says goodbye is seen here at once; the connection's own state would take ten seconds.
      const transport = receiver.getReceivers()[0].transport;
      transport.onstatechange = () => {
        if (transport.state === "closed" || transport.state === "failed") {
          this.fail("the connection was closed", sender);
        }
      };
    } catch (error) {
      this.fail(error.message, sender);
    }
  }

  addTracks(sender) {
    for (const track of this.stream.getTracks()) {
      const video = track.kind === "video";
      const transceiver = sender.addTransceiver(track, {
        direction: "sendonly",
        streams: [this.stream],
        sendEncodings: [
          video ? { maxBitrate: VIDEO_BITRATE, maxFramerate: this.fps } : { maxBitrate: AUDIO_BITRATE },
        ],
      });
      if (video) {
        const codecs = RTCRtpReceiver.getCapabilities("video").codecs;
        const wanted = (codec) => codec.mimeType.toLowerCase() === `video/${this.codec.toLowerCase()}`;
        transceiver.setCodecPreferences([...codecs.filter(wanted), ...codecs.filter((c) => !wanted(c))]);
        const parameters = transceiver.sender.getParameters();
        parameters.degradationPreference = "maintain-resolution"; // rather slower than blurred
        transceiver.sender.setParameters(parameters).catch(() => {}); // a wish, not a need
      }
    }
  }

  watch(sender, receiver) {
    if (sender !== this.sender) {
      return; // an earlier attempt's last words
    }
    const states = [sender.connectionState, receiver.connectionState];
    if (states.some((state) => state === "failed" || state === "closed")) {
      this.fail("the connection failed", sender);
    } else if (states.includes("disconnected")) {
      clearTimeout(this.deadline);
      this.deadline = setTimeout(() => this.fail("the connection was lost"), GRACE);
    } else if (states.every((state) => state === "connected")) {
      clearTimeout(this.deadline);
      this.onState(true);
    }
  }

  // For good: both ends are closed, and nothing is tried again.
  leave() {
    clearTimeout(this.deadline);
    const peers = [this.sender, this.receiver];
    this.sender = null;
    this.receiver = null;
    peers.forEach((peer) => peer?.close());
  }

  fail(reason, sender = this.sender) {
    if (sender !== this.sender || this.sender === null) {
      return;
    }
    this.leave();
    this.onState(false, reason);
    setTimeout(() => this.open(), RETRY);
  }

  // How loud the sound is that arrived just now, 0 to 1. 0 also when nothing arrives: silence is not sent.
  level() {
    const audio = this.receiver?.getReceivers().find(({ track }) => track.kind === "audio");
    const source = audio?.getSynchronizationSources()[0];
    const fresh = source && performance.timeOrigin + performance.now() - source.timestamp < 300;
    return fresh ? (source.audioLevel ?? 0) : 0;
  }
}

// What the sending peer is told is less than what the receiving one would take, because every packet costs several
// threads a wake-up:
// - no sound packets during silence (three of the four are silent nearly always), and mono;
// - no report on the arrival of every single packet: on a path without a network there is no bandwidth to discover.
function thrifty(sdp) {
  const opus = /^a=rtpmap:(\d+) opus\//m.exec(sdp)?.[1];
  return sdp
    .replace(new RegExp(`^(a=fmtp:${opus} .*)\r$`, "m"), "$1;usedtx=1;stereo=0\r")
    .replace(/^a=rtcp-fb:\d+ transport-cc\r\n/gm, "")
    .replace(/^a=extmap:\d+ .*transport-wide-cc.*\r\n/gm, "");
}
