"""The places that a recording's files go to in parts: the store, and customers' storages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import redis

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.targets import key_at, open_target
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.storage.backend import Part, StorageError, StoredObject
from recording_farm.farm.storage.content_types import content_type
from recording_farm.farm.storage.customer import CustomerStorage, open_backend
from recording_farm.farm.storage.host_keys import HostKeys
from recording_farm.farm.storage.parts import NO_PARTS, Data, PartRules, SentPart
from recording_farm.farm.storage.store import Store, open_store
from recording_farm.farm.storage.targets import SftpTarget, Target


@dataclass(frozen=True)
class Place:
    """The destination of one file in parts. The functions are those of `PartsBackend`, and raise
    StorageError."""

    rules: PartRules
    begin: Callable[[], dict[str, Any]]
    send: Callable[[dict[str, Any], Part, Data], dict[str, Any]]
    finish: Callable[[dict[str, Any], Sequence[SentPart]], StoredObject]
    abort: Callable[[dict[str, Any]], None]


def place_of(
    recording: Recording,
    target: str,
    sealed: str | None,
    settings: Settings,
    host_keys: HostKeys | None = None,
    name: str | None = None,
) -> Place | None:
    """The place of a recording's main file, or of its file `name`, in a target, whose keys are `sealed`.

    None if the whole file is uploaded at the end: the target takes no parts, or needs none. Beginning an
    upload to an SFTP server needs `host_keys`. Raises StorageError, SettingsError.
    """
    if target == STORE:
        return place_in_store(open_store(settings), recording, settings, name)
    if sealed is None:
        return None
    customers = open_target(Sealer(load_secret_key(settings)), recording.id, target, sealed)
    # A request without an answer would delay the transfer at the end; the sender retries by itself.
    storage = open_backend(customers, settings.address_rule, tries=1)
    place = place_at_customer(storage, customers, recording, name)
    if isinstance(customers, SftpTarget) and host_keys is not None:
        begin = partial(_begin_at_known, recording, customers, settings, host_keys, name)
        return replace(place, begin=begin)
    return place


def _begin_at_known(
    recording: Recording, target: SftpTarget, settings: Settings, host_keys: HostKeys, name: str | None
) -> dict[str, Any]:
    """Begin an upload to an SFTP server that shows its known host key, or whose first use this is."""
    try:
        known = host_keys.known(recording.organization_id, target)
        storage = open_backend(target, settings.address_rule, host_key=known)
        name = name or recording.output_file_name
        begun = storage.begin_parts(key_at(target, recording, name), content_type(name))
        if storage.host_key is not None:
            host_keys.keep(recording.organization_id, target, storage.host_key)
    except redis.RedisError as error:
        raise StorageError("unreachable", "Redis, which has the host keys, does not answer") from error
    return begun


def is_apart(settings: Settings) -> bool:
    """Whether the store is outside of the data directory, and so not lost with it."""
    directory = settings.store_location.directory
    return directory is None or not directory.resolve().is_relative_to(settings.data_dir.resolve())


def is_linked(settings: Settings) -> bool:
    """Whether the store gets a finished file by a hard link to that in the spool, and so needs no parts."""
    return _is_linked(open_store(settings), settings)


def _is_linked(store: Store, settings: Settings) -> bool:
    return not is_apart(settings) and store.takes_links_from(settings.data_dir)


def place_in_store(
    store: Store, recording: Recording, settings: Settings, name: str | None = None
) -> Place | None:
    """The place of a recording's file in the store; see `place_of`."""
    if _is_linked(store, settings):
        return None
    try:
        rules = store.part_rules
    except StorageError as error:
        if error.reason == NO_PARTS:
            return None
        raise
    where = recording.id, name or recording.output_file_name
    return Place(
        rules,
        partial(store.begin_parts, *where),
        partial(store.send_part, *where),
        partial(store.finish_parts, *where),
        partial(store.abort_parts, *where),
    )


def place_at_customer(
    storage: CustomerStorage, target: Target, recording: Recording, name: str | None = None
) -> Place:
    """The place of a recording's file in a customer's storage; see `place_of`."""
    name = name or recording.output_file_name
    key = key_at(target, recording, name)
    return Place(
        storage.part_rules,
        partial(storage.begin_parts, key, content_type(name)),
        partial(storage.send_part, key),
        partial(storage.finish_parts, key),
        partial(storage.abort_parts, key),
    )
