"""Media types of finished files, by the suffixes of their names."""

from pathlib import PurePosixPath

_CONTENT_TYPES = {
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".m4a": "audio/mp4",
    ".mp3": "audio/mpeg",
    ".json": "application/json",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".ts": "video/mp2t",
    ".tar": "application/x-tar",
    ".zip": "application/zip",
}


def content_type(file_name: str) -> str:
    """The media type of a finished file, from the ending of its name."""
    return _CONTENT_TYPES.get(PurePosixPath(file_name).suffix, "application/octet-stream")
