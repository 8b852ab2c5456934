"""A recording's live outputs in its record, and their sealed URLs."""

from typing import Final
from uuid import UUID

from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.errors import NotFoundError, WrongStateError
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.outputs import Output, StreamUrl, read_stream_url
from recording_farm.farm.recording.records import Records

_PREFIX: Final = "output:"


def sealed_name(output_id: UUID) -> str:
    """The name of an output's sealed URL; distinct from names of transfers."""
    return f"{_PREFIX}{output_id}"


def seal_url(sealer: Sealer, recording_id: UUID, output_id: UUID, url: str) -> str:
    """Encrypt an output's URL for this output."""
    return sealer.seal(url, _context(recording_id, output_id))


def _context(recording_id: UUID, output_id: UUID) -> str:
    return f"recording {recording_id}, output {output_id}"


class RecordedOutputs:
    """The outputs of one recording; see `farm.live.outputs.OutputBook`."""

    def __init__(self, recording: Recording, records: Records, sealer: Sealer) -> None:
        """`sealer` decrypts the URLs that the API has sealed."""
        self._recording = recording
        self._records = records
        self._sealer = sealer

    def wanted(self) -> list[Output]:
        """The outputs in the record. Raises NotFoundError, redis.RedisError."""
        return list(self._records.get(None, self._recording.id).outputs)

    def save(self, output: Output) -> None:
        """Save the state of an output, unless it was removed or lost. Raises redis.RedisError."""
        try:
            self._records.set_output(self._recording, output)
        except (NotFoundError, WrongStateError):
            # An API call was faster; the supervisor reads the outputs again.
            return

    def url(self, output: Output) -> StreamUrl:
        """The URL of an output. Raises NotFoundError, SettingsError, redis.RedisError."""
        sealed = self._records.sealed_target(self._recording.id, sealed_name(output.id))
        if sealed is None:
            raise NotFoundError(f"the URL of output {output.id} has been deleted")
        return read_stream_url(self._sealer.open(sealed, _context(self._recording.id, output.id)))
