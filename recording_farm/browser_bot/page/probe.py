"""The probe: a script in every frame that reports the page's state while it is recorded.

A script that runs in every frame before the page's own defines a function that samples the state: whether the
page is online, whether the compositor draws, whether anybody speaks, whether a video changes, and how many
remote tracks arrive. Browsers have no list of a page's peer connections, so the script wraps their
constructor; the page sees no difference.

A page is untrusted. The probe keeps references to the browser's own functions before the page can replace
them, and answers with a short text of digits; anything else is rejected.
"""

import asyncio
import logging
import re
from dataclasses import dataclass, replace
from typing import Final

from recording_farm.browser_bot.errors import NoAnswerError
from recording_farm.browser_bot.page.isolated_world import IsolatedWorld

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 5.0
"""How long an answer is valid. The page is sampled every 2 s."""

MAX_FRAMES: Final = 20
"""Maximum sampled frames; pages with more are not meetings."""

_NAME: Final = "__recordingFarmProbe"
ASK: Final = f"typeof {_NAME} === 'function' ? {_NAME}() : ''"
_ANSWER: Final = re.compile(r"([01]) ([01]) ([01]) ([01]) ([0-9]{1,6}) ([0-9]{1,6}) ([0-9]{1,6})")

INSTALL: Final = r"""
(() => {
  "use strict";
  const NAME = "__recordingFarmProbe";
  const MAX = 1000;    // maximum connections, tracks and elements
  const LOUD = 0.01;    // of full scale 1: -40 dB, below speech and above the noise of a room
  const RECENT = 1000;  // ms for which an audio level is valid
  const SPEECH = 1;     // bytes per ms, 8 kbit/s: Opus sends 16 and more for speech, hardly any for silence
  if (Object.hasOwn(globalThis, NAME)) return;

  // References to the browser's own functions, because the page may replace them. Code that runs later must
  // not use spread, `for of` or array methods: they use prototypes that the page can change.
  const { apply, construct, defineProperty, getOwnPropertyDescriptor } = Reflect;
  const getter = (type, name) => {
    const { get } = getOwnPropertyDescriptor(type.prototype, name);
    return (object) => apply(get, object, []);
  };
  const method = (type, name) => {
    const { value } = getOwnPropertyDescriptor(type.prototype, name);
    return (object, ...parameters) => apply(value, object, parameters);
  };
  const Weak = WeakRef;
  const page = document, clock = performance, browser = navigator, isTop = self === top;
  const now = method(Performance, "now");
  const timeOrigin = getter(Performance, "timeOrigin");
  const onLine = getter(Navigator, "onLine");
  const visibility = getter(Document, "visibilityState");
  const nextFrame = requestAnimationFrame;
  const remember = method(Set, "add"), forget = method(Set, "delete"), forEach = method(Set, "forEach");
  const size = getter(Set, "size");
  const deref = method(WeakRef, "deref");

  // Peer connections.
  const connections = new Set();
  let sampleConnections = () => ({ speaking: false, tracks: 0, unsettled: 0, connected: 0 });
  if (typeof RTCPeerConnection === "function") {
    const Native = RTCPeerConnection;
    const state = getter(Native, "connectionState");
    const transceiversOf = method(Native, "getTransceivers");
    const direction = getter(RTCRtpTransceiver, "currentDirection");
    const receiverOf = getter(RTCRtpTransceiver, "receiver");
    const trackOf = getter(RTCRtpReceiver, "track");
    const sourcesOf = method(RTCRtpReceiver, "getSynchronizationSources");
    const kind = getter(MediaStreamTrack, "kind");
    const statsOf = method(Native, "getStats");
    const eachOf = method(RTCStatsReport, "forEach");
    const then = method(Promise, "then");
    const { max } = Math;
    const Watched = new Proxy(Native, {
      construct(target, parameters, newTarget) {
        const connection = construct(target, parameters, newTarget);
        if (size(connections) < MAX) remember(connections, new Weak(connection));
        return connection;
      },
    });
    for (const name of ["RTCPeerConnection", "webkitRTCPeerConnection"]) {
      const there = getOwnPropertyDescriptor(globalThis, name);
      if (there?.value === Native) defineProperty(globalThis, name, { ...there, value: Watched });
    }
    defineProperty(Native.prototype, "constructor", { value: Watched });

    // Audio only has a level while it is played. For audio that is not played the only indication is how many
    // bytes arrive. Those statistics are asynchronous, so they are available at the next sample.
    let arrived = 0, arrivedBefore = 0, asked = 0, askedBefore = 0;
    const count = (report) => {
      try {
        eachOf(report, (stats) => {
          if (stats.type === "inbound-rtp" && stats.kind === "audio") arrived += stats.bytesReceived;
        });
      } catch {
        // Otherwise the page would get an unhandledrejection event.
      }
    };
    const arrives = () => {
      const speech = askedBefore > 0 && arrived - arrivedBefore > SPEECH * (asked - askedBefore);
      arrivedBefore = arrived;
      askedBefore = asked;
      arrived = 0;
      asked = now(clock);
      forEach(connections, (reference) => {
        const connection = deref(reference);
        if (connection !== undefined) then(statsOf(connection), count, () => {});
      });
      return speech;
    };
    // 2: speech, 1: silence, 0: not played.
    const loudness = (receiver) => {
      const since = timeOrigin(clock) + now(clock) - RECENT;
      const sources = sourcesOf(receiver);
      let most = 0;
      for (let i = 0; i < sources.length; i++) {
        if (sources[i].timestamp > since) most = sources[i].audioLevel > LOUD ? 2 : most || 1;
        if (most === 2) break;
      }
      return most;
    };
    sampleConnections = () => {
      let loudest = 0, hasAudio = false, tracks = 0, unsettled = 0, connected = 0;
      forEach(connections, (reference) => {
        const connection = deref(reference);
        const is = connection === undefined ? "closed" : state(connection);
        if (is === "closed") forget(connections, reference);
        if (is === "closed" || is === "failed" || tracks > MAX) return;
        if (is === "connecting" || is === "disconnected") unsettled += 1;
        if (is === "connected") connected += 1;
        const transceivers = transceiversOf(connection);
        for (let i = 0; i < transceivers.length; i++) {
          const way = direction(transceivers[i]);
          if (way !== "recvonly" && way !== "sendrecv") continue;
          tracks += 1;
          const receiver = receiverOf(transceivers[i]);
          if (kind(trackOf(receiver)) !== "audio") continue;
          hasAudio = true;
          loudest = max(loudest, loudness(receiver));
        }
      });
      const unplayed = hasAudio && loudest === 0;
      const speaking = loudest === 2 || (unplayed && arrives());
      if (!unplayed) asked = askedBefore = 0;
      return { speaking, tracks, unsettled, connected };
    };
  }

  // Elements that play files or media sources are audible if they decode audio. Elements of peer connections
  // decode none; they are handled above.
  const elementsOf = method(Document, "getElementsByTagName");
  const count = getter(HTMLCollection, "length"), item = method(HTMLCollection, "item");
  const paused = getter(HTMLMediaElement, "paused"), muted = getter(HTMLMediaElement, "muted");
  const volume = getter(HTMLMediaElement, "volume");
  const decoded = getter(HTMLMediaElement, "webkitAudioDecodedByteCount");
  let decodedBefore = 0;
  const playsAudio = () => {
    let bytes = 0;
    for (let type = 0; type < 2; type++) {
      const elements = elementsOf(page, type ? "video" : "audio");
      for (let i = 0; i < MAX && i < count(elements); i++) {
        const element = item(elements, i);
        if (!paused(element) && !muted(element) && volume(element) > 0) bytes += decoded(element);
      }
    }
    const more = decodedBefore > 0 && bytes > decodedBefore;
    decodedBefore = bytes;
    return more;
  };

  // A visible video that changes everywhere must change the display too. A video of a shared slide plays
  // without changes, or only around the pointer, so its frames are compared, scaled to 16 x 9. Only the
  // largest video is sampled, and only if it is visible.
  const COLUMNS = 16, ROWS = 9, CHANGED = COLUMNS * ROWS / 4, IN_SIGHT = 1 / 4;
  const Canvas = OffscreenCanvas;
  const surfaceOf = method(OffscreenCanvas, "getContext");
  const draw = method(OffscreenCanvasRenderingContext2D, "drawImage");
  const imageOf = method(OffscreenCanvasRenderingContext2D, "getImageData");
  const pixelsOf = getter(ImageData, "data");
  const videoWidth = getter(HTMLVideoElement, "videoWidth");
  const rectOf = method(Element, "getBoundingClientRect"), isVisible = method(Element, "checkVisibility");
  const left = getter(DOMRectReadOnly, "left"), right = getter(DOMRectReadOnly, "right");
  const top_ = getter(DOMRectReadOnly, "top"), bottom = getter(DOMRectReadOnly, "bottom");
  const at = method(Document, "elementFromPoint");
  const { get: innerWidth } = getOwnPropertyDescriptor(globalThis, "innerWidth");
  const { get: innerHeight } = getOwnPropertyDescriptor(globalThis, "innerHeight");
  const largestInSight = () => {
    const width = apply(innerWidth, globalThis, []), height = apply(innerHeight, globalThis, []);
    const videos = elementsOf(page, "video");
    let largest = null, most = 0;
    for (let i = 0; i < MAX && i < count(videos); i++) {
      const video = item(videos, i);
      if (paused(video) || videoWidth(video) === 0) continue;
      const rect = rectOf(video);
      const x = (left(rect) + right(rect)) / 2, y = (top_(rect) + bottom(rect)) / 2;
      const area = (right(rect) - left(rect)) * (bottom(rect) - top_(rect));
      const fits = left(rect) >= 0 && right(rect) <= width && top_(rect) >= 0 && bottom(rect) <= height;
      if (area <= most || !fits || bottom(rect) - top_(rect) < height * IN_SIGHT) continue;
      const options = { __proto__: null, opacityProperty: true, visibilityProperty: true };
      if (at(page, x, y) !== video || !isVisible(video, options)) continue;
      largest = video;
      most = area;
    }
    return largest;
  };
  let surface = null, seen = null, seenBefore = null;
  const moves = () => {
    if (!isTop) return false;
    const video = largestInSight(), before = video === seen ? seenBefore : null;
    seen = video;
    seenBefore = null;
    if (video === null) return false;
    try {
      const options = { __proto__: null, willReadFrequently: true };
      surface ??= surfaceOf(construct(Canvas, [COLUMNS, ROWS]), "2d", options);
      draw(surface, video, 0, 0, COLUMNS, ROWS);
      seenBefore = pixelsOf(imageOf(surface, 0, 0, COLUMNS, ROWS));
    } catch {
      surface = null;  // a cross-origin video, whose pixels cannot be read
      return false;
    }
    if (before === null) return false;
    let changed = 0;
    for (let i = 0; i < 4 * COLUMNS * ROWS; i += 4) {
      const is = seenBefore;
      if (is[i] !== before[i] || is[i + 1] !== before[i + 1] || is[i + 2] !== before[i + 2]) changed += 1;
    }
    return changed >= CHANGED;
  };

  // A compositor that hangs runs no animation frames. Child frames may be out of view.
  let waiting = false;
  const isDrawn = () => {
    if (!isTop) return true;
    const came = !waiting || visibility(page) !== "visible";
    if (!waiting) {
      waiting = true;
      apply(nextFrame, globalThis, [() => { waiting = false; }]);
    }
    return came;
  };

  const answer = () => {
    try {
      const { speaking, tracks, unsettled, connected } = sampleConnections();
      const heard = playsAudio() || speaking;
      const flags = `${onLine(browser) ? 1 : 0} ${isDrawn() ? 1 : 0} ${heard ? 1 : 0} ${moves() ? 1 : 0}`;
      return `${flags} ${tracks} ${unsettled} ${connected}`;
    } catch {
      return "";
    }
  };
  defineProperty(globalThis, NAME, { value: answer });
})();
"""


@dataclass(frozen=True)
class PageState:
    """A page's state as reported by its probe.

    `drawn`: its compositor ran an animation frame since the last sample. `speaking`: it receives audio of
    another participant or plays a file. `moving`: its largest visible video has changed everywhere since the
    last sample. `tracks` are the remote tracks, muted or not. `unsettled` connections may still add or
    restore tracks. `connected` is the number of established connections.
    """

    online: bool
    drawn: bool
    speaking: bool
    moving: bool
    tracks: int
    unsettled: int
    connected: int


def parse_answer(answer: object) -> PageState | None:
    """Parse the answer of one frame; None if it is invalid."""
    # A hostile page may return any type and length.
    if not isinstance(answer, str) or len(answer) > 50 or not (match := _ANSWER.fullmatch(answer)):
        return None
    online, drawn, speaking, moving, tracks, unsettled, connected = map(int, match.groups())
    return PageState(bool(online), bool(drawn), bool(speaking), bool(moving), tracks, unsettled, connected)


class Probe:
    """Samples the state of a page and its frames."""

    def __init__(self, world: IsolatedWorld) -> None:
        """Install the probe in the page of `world`, which must not be open yet."""
        self._world = world
        self._answer: PageState | None = None
        self._answered = 0.0
        self._frames: dict[str, _FrameProbe] = {}
        world.add_script(INSTALL)

    async def sample(self) -> None:
        """Sample the page and wait for its answer; child frames answer asynchronously.

        Raises NoAnswerError if the page is navigating or closing. Needs a time-out from the caller.
        """
        self._ask_frames()
        self._answer = parse_answer(await self._world.ask_main_world(ASK))
        self._answered = asyncio.get_running_loop().time()

    @property
    def state(self) -> PageState | None:
        """The state of the page and its frames; None without an answer for 5 s.

        A frame that hangs counts with its last tracks.
        """
        page = self._answer
        if page is None or asyncio.get_running_loop().time() - self._answered > FRESH_SECONDS:
            return None
        frames = [frame.answer for frame in self._frames.values() if frame.answer is not None]
        return PageState(
            page.online,
            page.drawn,
            page.speaking or any(frame.speaking for frame in frames),
            page.moving,
            page.tracks + sum(frame.tracks for frame in frames),
            page.unsettled + sum(frame.unsettled for frame in frames),
            page.connected + sum(frame.connected for frame in frames),
        )

    async def close(self) -> None:
        """Cancel pending samples."""
        frames, self._frames = self._frames, {}
        for frame in frames.values():
            frame.asking.cancel()
        await asyncio.gather(*(frame.asking for frame in frames.values()), return_exceptions=True)

    def _ask_frames(self) -> None:
        """Sample each frame without a pending answer, so that a frame that hangs is not asked again."""
        there = [frame for frame in self._world.frames if frame != self._world.main_frame][:MAX_FRAMES]
        for frame in self._frames.keys() - set(there):
            self._frames.pop(frame).asking.cancel()
        for frame in there:
            known = self._frames.get(frame)
            if known is None:
                self._frames[frame] = _FrameProbe(self._world, frame)
            elif known.asking.done():
                known.ask()
            else:
                known.mark_silent()


class _FrameProbe:
    """The state of one child frame."""

    def __init__(self, world: IsolatedWorld, frame: str) -> None:
        self._world = world
        self._frame = frame
        self.answer: PageState | None = None
        self.ask()

    def ask(self) -> None:
        self.asking = asyncio.ensure_future(self._ask())

    def mark_silent(self) -> None:
        """Record that it has not answered since the last sample, so nobody speaks in it."""
        if self.answer is not None:
            self.answer = replace(self.answer, speaking=False)

    async def _ask(self) -> None:
        try:
            self.answer = parse_answer(await self._world.ask_main_world(ASK, frame=self._frame))
        except NoAnswerError as error:
            logger.debug("a frame did not answer: %s", error)
