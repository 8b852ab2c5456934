"""A connection to an RTMP server that asks for a login; it takes an FLV stream.

The program ffmpeg reads a login from its URL only, and every user of the machine can read its command line.
This calls libavformat instead, the copy that PyAV has loaded.
"""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import av.logging
from av.error import FFmpegError, err_check

from recording_farm.farm.errors import FarmError

_WRITE: Final = 2
"""AVIO_FLAG_WRITE."""


class ConnectionFailedError(FarmError):
    """The connection failed; the message may contain the login."""


class _Stream(ctypes.Structure):
    """The first fields of libavformat's AVIOContext, which have this order since its version 59."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("av_class", "buffer")),
        ("buffer_size", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in ("buf_ptr", "buf_end", "opaque", "read", "write", "seek")),
        ("pos", ctypes.c_int64),
        *((name, ctypes.c_int) for name in ("eof_reached", "error")),
    )
    error: int


_StreamPointer = ctypes.POINTER(_Stream)


class RtmpConnection:
    """An open connection. Its methods block, for as long as the option `rw_timeout` allows."""

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        """Connect to a URL with a login, with ffmpeg's options. Raises ConnectionFailedError."""
        self._library = _libavformat()
        self._stream = _StreamPointer()
        given = ctypes.c_void_p()
        for name, value in options.items():
            self._library.av_dict_set(ctypes.byref(given), name.encode(), value.encode(), 0)
        before = av.logging.get_level()
        av.logging.set_level(av.logging.ERROR)
        try:
            with av.logging.Capture() as logs:
                code = self._library.avio_open2(
                    ctypes.byref(self._stream), url.encode(), _WRITE, None, ctypes.byref(given)
                )
        finally:
            av.logging.set_level(before)
            self._library.av_dict_free(ctypes.byref(given))
        if code < 0:
            # The first line has the cause; the next ones and the code say less.
            raise ConnectionFailedError(logs[0][2].strip() if logs else _words(code))

    def write(self, data: bytes) -> None:
        """Send a piece of the stream. Raises ConnectionFailedError."""
        self._library.avio_write(self._stream, data, len(data))
        self._library.avio_flush(self._stream)
        if self._stream.contents.error < 0:
            raise ConnectionFailedError(_words(self._stream.contents.error))

    def __enter__(self) -> "RtmpConnection":
        """The connection is open already."""
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        """End the stream and disconnect. Raises ConnectionFailedError, unless there is an error already."""
        code = self._library.avio_closep(ctypes.byref(self._stream))
        if code < 0 and error is None:
            raise ConnectionFailedError(_words(code))


def _words(code: int) -> str:
    try:
        err_check(code)
    except (FFmpegError, OSError) as error:
        return str(error.strerror)
    return f"error {code}"


def _libavformat() -> ctypes.CDLL:
    mapped = (line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines())
    file = next(path for path in mapped if "libavformat" in path)
    library = ctypes.CDLL(file)
    any_pointer = ctypes.c_void_p
    library.av_dict_set.argtypes = (any_pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
    library.av_dict_free.argtypes = (any_pointer,)
    library.avio_open2.argtypes = (any_pointer, ctypes.c_char_p, ctypes.c_int, any_pointer, any_pointer)
    library.avio_write.argtypes = (_StreamPointer, ctypes.c_char_p, ctypes.c_int)
    library.avio_write.restype = None
    library.avio_flush.argtypes = (_StreamPointer,)
    library.avio_flush.restype = None
    library.avio_closep.argtypes = (any_pointer,)
    return library
