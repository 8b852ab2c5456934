"""The farm's secret key (FARM_SECRET_KEY), which encrypts and signs; generated once if it is not set."""

import secrets
from functools import partial
from typing import Final

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.secret_files import read_or_make

_SECRET_FILE: Final = "secret-key"  # noqa: S105 - the name of the file, not the secret


def load_secret_key(settings: Settings) -> bytes:
    """The secret key of the settings, or a random one stored in the data directory.

    Raises SettingsError when the file in the data directory cannot be read or written.
    """
    if settings.secret_key is not None:
        return settings.secret_key.get_secret_value().encode()
    return read_or_make(settings.data_dir / _SECRET_FILE, partial(secrets.token_hex, 32)).strip().encode()
