"""The RQ job that uploads a recording's files to one target: the store or a customer's storage.

Safe to run again after a crash, by two workers at once, and on another node once the files are in the store.
All state is in the record; the job has only the ids.
"""

import logging
import shutil
from uuid import UUID

from recording_farm.farm.config.settings import Settings, load_settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.errors import NotFoundError
from recording_farm.farm.evidence.directory import evidence_dir, remove_evidence
from recording_farm.farm.jobs.settle import settle
from recording_farm.farm.jobs.transfer_attempt import run_transfer
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import spool_directory
from recording_farm.farm.telemetry.recording_log import logging_to

logger = logging.getLogger(__name__)


def transfer(recording_id: str, target: str) -> None:
    """Upload a recording's files to `target`, if that is still to be done."""
    settings = load_settings()
    with connect(settings.redis_address) as client, logging_to(evidence_dir(settings, recording_id)):
        try:
            run_transfer(UUID(recording_id), target, settings, client)
            settle(UUID(recording_id), settings, client)
            return
        except NotFoundError:
            logger.info("recording %s was deleted meanwhile", recording_id)
    forget_deleted(UUID(recording_id), settings)


def forget_deleted(recording_id: UUID, settings: Settings) -> None:
    """Delete the files that uploads fetched for a deleted recording, and their log.

    Files that did not come from the store stay: if Redis lost the record, they may be the only copy.
    """
    directory = spool_directory(settings, recording_id)
    if Outbox.below(directory).is_from_store():
        shutil.rmtree(directory, ignore_errors=True)
        remove_evidence(settings, recording_id)
