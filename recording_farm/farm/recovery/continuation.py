"""How a node continues a recording whose last recorder died, on this node or with its own.

If the recorder had ended the recording before it died, that ending is applied. If the recording breaks too
often, it ends here. Otherwise it is resumed, and the evidence of the crash is kept.
"""

import logging
import threading
from datetime import timedelta

import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import TakenOverError
from recording_farm.farm.evidence.dead_recorder import (
    describe_exit,
    describe_lost_node,
    keep_last_frame,
    pop_reported,
    save_crash_report,
)
from recording_farm.farm.evidence.directory import evidence_dir
from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.nodes.slot_number import slot_number
from recording_farm.farm.recording.model import Recording, TimelineEntry
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.timeline import take_overs
from recording_farm.farm.recovery.endings import DIED, apply_saved_ending, fail_or_salvage
from recording_farm.farm.spool.breaks import BREAK_SECONDS, MAX_BREAKS, breaks_too_often
from recording_farm.farm.spool.ending import forget_ending
from recording_farm.farm.spool.spool import Spool, spool_of

logger = logging.getLogger(__name__)


def claim_from_gone_node(
    recording: Recording, node: str, settings: Settings, client: redis.Redis
) -> Recording:
    """Take over a recording from `node`, which is gone.

    Raises TakenOverError when that node lives or a third node was quicker, NotFoundError, WrongStateError.
    """
    gone = Nodes(client).gone(node)
    if gone is None:
        raise TakenOverError(f"its node {node} lives")
    # The take that ran there ended with the last beat of the node.
    ended = max([gone.heard, *(entry.time for entry in recording.timeline)])
    fault = f"the node {node} is gone; another node resumes the recording"
    entry = TimelineEntry(event="fault", fault=fault, node=node, time=ended)
    return Records(client).claim(recording, settings.node, entry, slot=slot_number())


def prepare_to_resume(recording: Recording, last_node: str, settings: Settings, client: redis.Redis) -> bool:
    """Prepare a claimed recording, whose recorder died on `last_node`, to be resumed; false if it has ended.

    Raises NotFoundError when Redis does not know it, redis.RedisError when Redis cannot be reached.
    """
    spool, evidence = spool_of(recording, settings), evidence_dir(settings, str(recording.id))
    seen = pop_reported(evidence)
    spool.make()
    if last_node == settings.node:
        if apply_saved_ending(recording, settings, client):
            return False
        Records(client).note(recording.id, TimelineEntry(event="fault", fault=DIED.message, time=now()))
    death = describe_exit(None) if last_node == settings.node else describe_lost_node(last_node)
    place = seen or save_crash_report(evidence, spool.directory, death)
    if _died_too_often(recording, spool):
        keep_last_frame(place, spool.directory)
        fail_or_salvage(recording.id, settings, client)
        return False
    forget_ending(spool)  # from before another node had the recording
    logger.warning("resuming recording %s of the node %s", recording.id, last_node)
    # In a thread, so that the recording does not wait for it.
    threading.Thread(target=keep_last_frame, args=(place, spool.directory), daemon=True).start()
    return True


def _died_too_often(recording: Recording, spool: Spool) -> bool:
    """Count the break; true if the recording breaks too often here, or was taken over too often."""
    since = now() - timedelta(seconds=BREAK_SECONDS)
    return breaks_too_often(spool) or take_overs(recording.timeline, since) >= MAX_BREAKS
