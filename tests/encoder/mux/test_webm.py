"""The head of a WebM that is too long to be recorded in a test, read back by libav."""

from pathlib import Path

import av
import numpy as np

from recording_farm.encoder.cut.put_in_front import BLOCK_BYTES, put_in_front
from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.media.partial_file import open_take
from recording_farm.encoder.mux import webm
from recording_farm.encoder.mux.padding import Padding
from recording_farm.encoder.mux.samples import ENTRY, Entries, Kind, Sample
from recording_farm.encoder.mux.template import last_durations, make_template, save_streams
from testkit.encoder.beeps import make_take

SECONDS = 2 * 3600


def template_of(directory: Path, fmt: Format, entries: Entries) -> bytes:
    take = make_take(directory / f"take{fmt.codec.suffix}", 3.4, 4.0, picture_from=3.5)
    with open_take(take) as source:
        save_streams(source, directory / "streams", fmt)
    with (directory / "streams").open("rb") as streams:
        return make_template(streams, entries, fmt, {"title": "long"})


def test_webm_should_lead_to_its_clusters_however_long_it_is(tmp_path: Path) -> None:
    fmt = Format(Codec.VP8, 160, 90)
    samples = [
        Sample(Kind.VIDEO, second * 1000, second % 2 == 0, second.to_bytes(8) + bytes(1000))
        for second in range(SECONDS)
    ]
    body, rows = bytearray(), []
    for begin in range(0, SECONDS, 2):
        data, entries = webm.pack(samples[begin : begin + 2], len(body))
        body += data
        rows += [(each.kind, each.is_key, each.size, each.pts, each.offset) for each in entries]
    log = np.array(rows, ENTRY)
    head = webm.head(
        template_of(tmp_path, fmt, log), log, len(body), last_durations(fmt), Padding(BLOCK_BYTES)
    )
    assert len(head) % BLOCK_BYTES == 0
    (tmp_path / "body").write_bytes(body)
    put_in_front(head, tmp_path / "body", tmp_path / "long.webm")
    with av.open(str(tmp_path / "long.webm")) as source:
        stream = source.streams.video[0]
        assert source.duration == (SECONDS - 1) * 1_000_000 + 33_000
        source.seek(5_001_000_000, backward=True)
        packet = next(source.demux(stream))
    # The key frame before it, to which a cue leads.
    assert (packet.pts, bytes(packet)[:8]) == (5_000_000, (5_000).to_bytes(8))
