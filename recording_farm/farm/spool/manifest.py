"""The manifest: a JSON description of a recording's files, stored beside them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import JsonValue

from recording_farm.encoder.atomic_file import write_file
from recording_farm.encoder.media.probe import Media
from recording_farm.farm.recording.model import (
    FileKind,
    FinishedFile,
    Recording,
    TakeInFile,
    stop_reason_of,
)
from recording_farm.farm.spool.finished_file import DescribedFile, describe
from recording_farm.farm.storage.content_types import content_type

_SUFFIX: Final = ".json"


def manifest_path(directory: Path, recording: Recording) -> Path:
    """Path of the manifest in the directory of a recording's files."""
    return directory / Path(recording.output_file_name).with_suffix(_SUFFIX).name


def write_manifest(
    path: Path,
    recording: Recording,
    files: Sequence[tuple[DescribedFile, Media]],
    quality: dict[str, JsonValue],
    takes: Sequence[TakeInFile],
) -> None:
    """Write the manifest of `files` atomically and durably."""
    write_file(path, json.dumps(_manifest(recording, files, quality, takes), ensure_ascii=False, indent=2))


@dataclass(frozen=True)
class Finished:
    """The content of a manifest: the files (the manifest last), their duration, quality, and takes."""

    files: list[FinishedFile]
    duration_us: int
    quality: dict[str, JsonValue]
    takes: list[TakeInFile]


def read_manifest(path: Path) -> Finished | None:
    """Read the manifest of an earlier attempt; None if there is none.

    The takes may be deleted by then, so the manifest is the only source if Redis has lost the record.
    """
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    files = [
        FinishedFile(
            kind=FileKind(file.get("kind") or file["content_type"].split("/")[0]),
            name=file["name"],
            size=file["bytes"],
            sha256=file["sha256"] or "",
            # Version 0.1 wrote none.
            crc32c=file.get("crc32c"),
        )
        for file in manifest["files"]
    ]
    files.append(describe(path, FileKind.MANIFEST))
    # Version 0.1 wrote no takes.
    takes = [TakeInFile(**take) for take in manifest.get("takes", [])]
    return Finished(files, manifest["files"][0]["duration_us"], manifest["quality"], takes)


def _manifest(
    recording: Recording,
    files: Sequence[tuple[DescribedFile, Media]],
    quality: dict[str, JsonValue],
    takes: Sequence[TakeInFile],
) -> dict[str, Any]:
    included = {
        "id",
        "organization_id",
        "meeting_id",
        "invoked_time",
        "started_time",
        "stopped_time",
        "stop_reason",
    }
    shown = recording.model_copy(update={"stop_reason": stop_reason_of(recording)})
    return {
        "version": 1,
        "recording": shown.model_dump(mode="json", include=included, exclude_none=True),
        "timeline": [entry.model_dump(mode="json", exclude_none=True) for entry in recording.timeline],
        "quality": quality,
        "takes": [take.model_dump() for take in takes],
        "files": [_described(file, media) for file, media in files],
    }


def _described(described: DescribedFile, media: Media) -> dict[str, Any]:
    file = described.file
    fields = {
        "kind": file.kind,
        "name": file.name,
        "content_type": content_type(file.name),
        "bytes": file.size,
        "sha256": file.sha256 or None,
        "crc32c": file.crc32c,
        "duration_us": media.duration_us,
        "streams": [
            {name: value for name, value in vars(stream).items() if value is not None}
            for stream in media.streams
        ],
    }
    if described.parts:
        fields["parts"] = [
            {"offset": part.offset, "bytes": part.size, "sha256": part.sha256} for part in described.parts
        ]
    return fields
