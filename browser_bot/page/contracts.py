"""Page contracts: how a page signals that recording may start and that it is over."""

from enum import StrEnum

START_SIGNAL = "START_RECORDING"
END_SIGNAL = "END_RECORDING"
# What follows is why the page cannot be recorded; ours, the built-in meeting prints it.
REFUSAL_SIGNAL = "REFUSE_RECORDING:"
# How long a page that speaks the console contract may take from loading to START_RECORDING; the recording
# SDKs allow two minutes as well.
SIGNAL_TIMEOUT = 120.0
# What a plain page gets, after it has loaded, to show its first pictures.
SETTLE_TIMEOUT = 2.0


class PageContract(StrEnum):
    """How the page says "start now" and "I am over"."""

    AUTO = "auto"
    """Whichever comes first: the signal of `console`, or what `plain` waits for."""
    PLAIN = "plain"
    """The page says nothing: it has loaded, with fonts and pictures, and its videos show first frames."""
    CONSOLE = "console"
    """The page prints START_RECORDING and END_RECORDING, as LiveKit's templates do."""
    SDK = "sdk"
    """The page has the recording SDK of Dyte or RealtimeKit, see `recording_sdk`."""


# Waits for fonts, pictures and, where there are videos, a decoded frame in each; with none it waits the whole
# settle time, since a meeting makes its videos only when it has joined. Two animation frames later all of it
# has been composed. Asked in a world of our own: what the page has replaced is not replaced there. But a page
# may give an element the name of a method of its document.
PLAIN_READY = """
async (settle) => {
  const frame = () => new Promise(requestAnimationFrame);
  const settled = new Promise(resolve => setTimeout(resolve, settle, true));
  const all = (root, selector) => [...Document.prototype.querySelectorAll.call(root, selector)];
  const pictures = all(document, 'img').filter(image => !image.complete).map(image =>
    new Promise(resolve => ['load', 'error'].forEach(type => image.addEventListener(type, resolve))));
  const playing = async () => {
    let over = false;
    settled.then(() => { over = true; });
    for (;;) {
      const videos = all(document, 'video');
      if (over || (videos.length && videos.every(video => video.readyState >= 2))) return;
      await frame();
    }
  };
  await Promise.race([settled, Promise.all([document.fonts.ready, ...pictures, playing()])]);
  await frame();
  await frame();
}
"""
