"""`python -m api`: the API as a process of its own; `farm api` and `farm up` start it so."""

import os
import sys

from recording_farm.api.server import serve
from recording_farm.farm.config.settings import load_settings, refuse_unknown_settings
from recording_farm.farm.errors import FarmError
from recording_farm.farm.host.ca_file import trust
from recording_farm.farm.host.private_files import keep_files_private
from recording_farm.farm.telemetry.logs import set_up_logs_from_environment

if __name__ == "__main__":
    set_up_logs_from_environment()
    try:
        settings = load_settings()
        refuse_unknown_settings(os.environ)
        keep_files_private(settings.own_directories)
        trust(settings.ca_file, settings.data_dir)
        serve(settings)
    except (FarmError, OSError) as error:
        print(f"farm: {error}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, FarmError) else 1)
