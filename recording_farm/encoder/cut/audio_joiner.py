"""Joins the takes of an audio recording: each one directly after the last, without a gap.

The first packet of a take is AAC's priming: it decodes to the silence before the audio, and the packet after
it cannot be decoded without it. In the file the first take keeps it before time zero, where the edit list
hides it. At a joint the last packet of the take before replaces it, so one take fades into the other over one
packet.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from av.container import InputContainer

from recording_farm.encoder.cut.joiner import Joined, JoinState, TakeJoint, TakeMedia, TakePlace
from recording_farm.encoder.formats import AAC_FRAME_SAMPLES, SAMPLE_RATE
from recording_farm.encoder.media.packets import Packet, samples_of, time_of
from recording_farm.encoder.mux.body import Body
from recording_farm.encoder.mux.samples import Kind, Sample


class AudioJoiner:
    """Appends takes to a body. Times are in samples; see `Joiner` for the methods."""

    def __init__(self, body: Body, state: JoinState | None = None) -> None:
        """Continue from `state`, whose samples are in `body`."""
        self._body = body
        self.state = state or JoinState()
        self._place = self.state.take
        self._joints = list(self.state.joints)
        self._end = int(self.state.sound_end)
        self._audio_until = self._place.audio_until if self._place else None

    def begin(self, take: TakeMedia, first: Sequence[Packet], source: InputContainer) -> bool:  # noqa: ARG002
        """Append a take, unless it has no audio."""
        if len(first) < 2 or (take.end_us is not None and time_of(first[1]) >= take.end_us):
            return False
        offset = self._end - samples_of(first[0]) - AAC_FRAME_SAMPLES
        self._place = TakePlace(
            number=take.number,
            video_first=0,
            sound_delay=0,
            sound_from=0,
            offset=offset,
            picture_from=0,
            stretch=take.stretch,
            grid=(),
        )
        # The priming of a later take is left out.
        self._audio_until = time_of(first[0]) if self._joints else None
        start = _in(self._end, 10**9)
        self._joints.append(TakeJoint(take.number, _in(offset, 10**6), start, start))
        return True

    def resume(self) -> None:
        """See `Joiner`."""

    def add(self, packet: Packet, take: TakeMedia) -> None:
        """See `Joiner`."""
        time = time_of(packet)
        if (self._audio_until is not None and time <= self._audio_until) or (
            take.end_us is not None and time >= take.end_us
        ):
            return
        assert self._place is not None
        pts = samples_of(packet) + self._place.offset
        sample = Sample(Kind.AUDIO, pts, True, bytes(packet))
        if self._body.begins_group(sample):
            self._body.flush()
            self.state = self._snapshot()
        self._body.add(sample)
        self._end, self._audio_until = pts + AAC_FRAME_SAMPLES, time

    def end_take(self, take: TakeMedia) -> None:  # noqa: ARG002 - no frames to count
        """See `Joiner`."""
        self._joints[-1] = replace(self._joints[-1], end_ns=_in(self._end, 10**9))

    def close(self) -> Joined:
        """See `Joiner`."""
        self._body.flush()
        return Joined(_in(self._end, 10**6), 0, 0, 0, tuple(self._joints))

    def _snapshot(self) -> JoinState:
        place = self._place and replace(self._place, audio_until=self._audio_until)
        return JoinState(0, Fraction(self._end), 0, tuple(self._joints), place)


def _in(samples: int, units: int) -> int:
    """A time in samples, converted to units of which a second has `units`."""
    return samples * units // SAMPLE_RATE
