"""Where recordings go while things break: the farm's store, and customers' storages; what is left in them."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from testkit.storage.places import (
    FILMS,
    STORE,
    Opened,
    Place,
    azure_place,
    directory_place,
    s3_place,
    sftp_place,
)

STORES: Final[Mapping[str, Opened]] = {
    "S3": s3_place,
    "Azurite": azure_place,
    "directory": directory_place,
}
"""Kinds of the farm's store; a run has one of them."""

CUSTOMERS: Final[Mapping[str, Opened]] = {"S3": s3_place, "Azurite": azure_place, "sshd": sftp_place}


class Storages:
    """The servers of a run. They are outside the farm, and nothing breaks them."""

    def __init__(self, directory: Path, store: str, lives: ExitStack) -> None:
        """Start them; they run until `lives` ends."""
        self._places: dict[str, Place] = {}
        for name, opened in {**STORES, **CUSTOMERS}.items():
            if name in CUSTOMERS or name == store:
                place_dir = directory / name
                place_dir.mkdir(parents=True)
                self._places[name] = lives.enter_context(opened(place_dir))
        self._store = self._places[store]

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings of the farm's store."""
        return self._store.settings

    def target(self, customer: str | None) -> dict[str, Any]:
        """The fields of a request with which a recording goes to a customer's storage, too."""
        if customer is None:
            return {}
        target = self._places[customer].target
        assert target is not None
        return {"storage_config": dict(target)}

    def fetch(self, recording_id: str, name: str, target: Path) -> Path:
        """Download a file of the store."""
        target.write_bytes(self._store.read(STORE, f"{recording_id}/{name}"))
        return target

    def unfinished(self) -> Iterator[str]:
        """What nobody will finish, and what should have been deleted."""
        for each in self._store.unfinished(STORE):
            yield f"the store has {each}"
        for name in CUSTOMERS:
            for each in self._places[name].unfinished(FILMS):
                yield f"the customer's {name} has {each}"
