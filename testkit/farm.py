"""A farm of which nothing runs but Redis, for tests that call its functions themselves."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from redis import Redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.jobs.settle import settle
from recording_farm.farm.jobs.transfer_attempt import run_transfer
from recording_farm.farm.recording.model import FileKind, Reason, ReasonKind, Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.sealed_urls import open_urls
from recording_farm.farm.recording.transfers import STORE, Transfer
from recording_farm.farm.spool.finished_file import describe
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.storage.targets import TARGET, public
from testkit.recordings import new_recording, sealed_target


@dataclass(frozen=True)
class Farm:
    """Its settings, Redis and records."""

    settings: Settings
    redis: Redis
    records: Records

    def add(self, **fields: Any) -> Recording:
        """Add a recording as the API would; `fields` replace those of the record."""
        return self.records.add(new_recording(**fields))

    def opened(self, recording: Recording) -> Recording:
        """The recording with the URLs that its record has sealed."""
        return open_urls(recording, Sealer(load_secret_key(self.settings)))

    def stop_and_delete(self, recording: Recording) -> None:
        """Do what a client does that has changed its mind while the page is being opened."""
        reason = Reason(reason=ReasonKind.STOPPED_BEFORE_START)
        self.records.delete(self.records.change_state(recording.id, Status.ERRORED, stop_reason=reason))

    def with_settings(self, **values: Any) -> Self:
        """The same with other settings; `values` are given as in the environment."""
        return replace(self, settings=Settings.model_validate(self.settings.model_dump() | values))

    def ended(
        self,
        recording: Recording,
        film: Path,
        target: dict[str, Any] | None = None,
        *,
        keep_copy: bool = True,
    ) -> Recording:
        """Add a recording as `farm.jobs.finish` leaves it: UPLOADING, `film` and a manifest in its outbox."""
        places = ([STORE] if keep_copy else []) + ([target["type"]] if target else [])
        recording = recording.model_copy(
            update={
                "keep_copy": keep_copy,
                "transfers": tuple(Transfer(target=place) for place in places),
                "storage_config": public(TARGET.validate_python(target)) if target else None,
            }
        )
        sealed = sealed_target(self.settings, recording, target) if target else None
        recording = self.records.add(recording, target=sealed)
        self.records.change_state(recording.id, Status.RECORDING, started_time=now(), node=self.settings.node)
        self.records.change_state(recording.id, Status.UPLOADING, stopped_time=now())
        outbox = Outbox.of(spool_of(recording, self.settings))
        outbox.make()
        video = outbox.directory / recording.output_file_name
        video.hardlink_to(film)
        manifest = video.with_suffix(".json")
        manifest.write_text("{}")
        files = [describe(video, FileKind.VIDEO), describe(manifest, FileKind.MANIFEST)]
        return self.records.update(recording.id, files=files, file_size=files[0].size)

    def stored(self, recording: Recording, film: Path, target: dict[str, Any] | None = None) -> Recording:
        """Add the same, and store its files; without a target it is UPLOADED."""
        recording = self.ended(recording, film, target)
        run_transfer(recording.id, STORE, self.settings, self.redis)
        settle(recording.id, self.settings, self.redis)
        return self.records.get(None, recording.id)
