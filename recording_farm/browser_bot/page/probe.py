"""The probe: a script in every frame that reports the page's state while it is recorded.

A script that every frame runs before its own leaves a function in it that takes one look: whether there is a
network, whether the compositor draws, whether anybody speaks, whether a video moves, and how many tracks of
others arrive. There is no list of a page's peer connections, so their constructor is wrapped; the page sees
no difference.

A page is a stranger. The probe keeps what it needs of the browser's own functions before the page can change
them, says all it has to say in one short text of digits, and what is not that is no answer.
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
"""As long as a page's answer counts. It is asked each 2 s."""

MAX_FRAMES: Final = 20
"""Pages with more frames than this are shops, not meetings."""

_NAME: Final = "__recordingFarmProbe"
ASK: Final = f"typeof {_NAME} === 'function' ? {_NAME}() : ''"
_ANSWER: Final = re.compile(r"([01]) ([01]) ([01]) ([01]) ([0-9]{1,6}) ([0-9]{1,6}) ([0-9]{1,6})")

INSTALL: Final = r"""
(() => {
  "use strict";
  const NAME = "__recordingFarmProbe";
  const MAX = 1000;    // connections, tracks and elements that are looked at
  const LOUD = 0.01;    // of full scale 1: -40 dB, which speech is above and the noise of a room is not
  const RECENT = 1000;  // ms for which a level of sound counts
  const SPEECH = 1;     // bytes in a ms, 8 kbit/s: Opus has 16 and more for speech, hardly any for silence
  if (Object.hasOwn(globalThis, NAME)) return;

  // The browser's own functions, whatever the page puts in their place later. What runs later has no spread,
  // no `for of` and no methods of arrays: they go through the page's prototypes.
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
  let look = () => ({ speaking: false, tracks: 0, unsettled: 0, connected: 0 });
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

    // Sound has a level only while it is played. Of sound that nothing plays there is no more to be had than
    // how many bytes of it arrive, and that takes the browser longer to tell: it is known at the next look.
    let arrived = 0, arrivedBefore = 0, asked = 0, askedBefore = 0;
    const count = (report) => {
      try {
        eachOf(report, (stats) => {
          if (stats.type === "inbound-rtp" && stats.kind === "audio") arrived += stats.bytesReceived;
        });
      } catch {
        // Else the page would hear of a rejection that is none of its own.
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
    // 2: speaks, 1: is silent, 0: nothing is played.
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
    look = () => {
      let loudest = 0, hasSound = false, tracks = 0, unsettled = 0, connected = 0;
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
          hasSound = true;
          loudest = max(loudest, loudness(receiver));
        }
      });
      const unplayed = hasSound && loudest === 0;
      const speaking = loudest === 2 || (unplayed && arrives());
      if (!unplayed) asked = askedBefore = 0;
      return { speaking, tracks, unsettled, connected };
    };
  }

  // Elements that play files or streams of bytes: those are heard whose sound is being decoded. Elements of
  // peer connections decode none; theirs was found above.
  const elementsOf = method(Document, "getElementsByTagName");
  const count = getter(HTMLCollection, "length"), item = method(HTMLCollection, "item");
  const paused = getter(HTMLMediaElement, "paused"), muted = getter(HTMLMediaElement, "muted");
  const volume = getter(HTMLMediaElement, "volume");
  const decoded = getter(HTMLMediaElement, "webkitAudioDecodedByteCount");
  let decodedBefore = 0;
  const playsSound = () => {
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

  // A video that changes all over changes the display too, if it is shown. One of a shared slide goes on as
  // well and changes nothing, or what is under the pointer; so what counts is what it shows, as a picture of
  // 16 x 9. Only the largest is looked at, and only if it is in sight.
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
      surface = null;  // another site's video, which nobody may look at
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

  // A compositor that hangs gives no animation frames any more. Frames inside the page may be out of sight.
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
      const { speaking, tracks, unsettled, connected } = look();
      const heard = playsSound() || speaking;
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
    """What a page says of itself.

    `drawn`: since the last look its compositor has given it a frame to draw. `speaking`: sound of another
    participant arrives, or of a file that it plays. `moving`: its largest video, if it is in sight, has
    changed all over since the last look. `tracks` are sent to it by others, muted or not; `unsettled`
    connections may yet bring some, or bring them back; `connected` are those that live.
    """

    online: bool
    drawn: bool
    speaking: bool
    moving: bool
    tracks: int
    unsettled: int
    connected: int


def parse_answer(answer: object) -> PageState | None:
    """The answer of one frame; None if it is none of the probe's."""
    # What a hostile page puts there may be of any type and length.
    if not isinstance(answer, str) or len(answer) > 50 or not (match := _ANSWER.fullmatch(answer)):
        return None
    online, drawn, speaking, moving, tracks, unsettled, connected = map(int, match.groups())
    return PageState(bool(online), bool(drawn), bool(speaking), bool(moving), tracks, unsettled, connected)


class Probe:
    """Looks at a page and the frames in it."""

    def __init__(self, world: IsolatedWorld) -> None:
        """Look at the page of `world`, which is not open yet."""
        self._world = world
        self._answer: PageState | None = None
        self._answered = 0.0
        self._frames: dict[str, _FrameProbe] = {}
        world.script(INSTALL)

    async def look(self) -> None:
        """Ask the page, and wait for its answer; the frames in it answer when they do.

        Raises NoAnswerError of a page that goes away just now. Put a time-out around it.
        """
        self._ask_frames()
        self._answer = parse_answer(await self._world.ask_main_world(ASK))
        self._answered = asyncio.get_running_loop().time()

    @property
    def state(self) -> PageState | None:
        """What the page said, its frames included; None if it has not said anything for 5 s.

        A frame that hangs counts with the tracks that it last had.
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
        """Wait for no answer any more."""
        frames, self._frames = self._frames, {}
        for frame in frames.values():
            frame.asking.cancel()
        await asyncio.gather(*(frame.asking for frame in frames.values()), return_exceptions=True)

    def _ask_frames(self) -> None:
        """Ask each frame that owes no answer, so that one that hangs is asked once and no more."""
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
                known.is_silent()


class _FrameProbe:
    """One frame inside the page, being asked."""

    def __init__(self, world: IsolatedWorld, frame: str) -> None:
        self._world = world
        self._frame = frame
        self.answer: PageState | None = None
        self.ask()

    def ask(self) -> None:
        self.asking = asyncio.ensure_future(self._ask())

    def is_silent(self) -> None:
        """It has not answered since the last look: nobody can be heard in it."""
        if self.answer is not None:
            self.answer = replace(self.answer, speaking=False)

    async def _ask(self) -> None:
        try:
            self.answer = parse_answer(await self._world.ask_main_world(ASK, frame=self._frame))
        except NoAnswerError as error:
            logger.debug("a frame could not be asked: %s", error)
