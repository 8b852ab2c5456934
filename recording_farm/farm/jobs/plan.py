"""The plan of a recording, made from its record."""

import logging

from recording_farm.encoder.atomic_file import write_file
from recording_farm.encoder.takes.command import Watermark
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.host.ca_file import nss_database
from recording_farm.farm.pages.access import (
    PAGE_ACCESS,
    PageAccess,
    contract_of,
    environment_of,
    open_access,
    opening_of,
)
from recording_farm.farm.pages.watermark import corner_of
from recording_farm.farm.recorder.monitor import Limits
from recording_farm.farm.recorder.plan import Plan
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import (
    Recording,
    Status,
)
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.sealed_urls import open_urls
from recording_farm.farm.recording.timeline import recorded_elsewhere, take_overs
from recording_farm.farm.spool.spool import spool_of

logger = logging.getLogger(__name__)

WATERMARK = "watermark.png"


def watermark_of(recording: Recording, settings: Settings, records: Records) -> Watermark | None:
    """The watermark, copied into the spool in case Redis loses it."""
    if recording.watermark is None:
        return None
    spool = spool_of(recording, settings)
    file = spool.directory / WATERMARK
    if not file.exists():
        png = records.watermark(recording.id)
        if png is None:
            logger.error(
                "recording %s: the watermark is missing in Redis; recording without it", recording.id
            )
            return None
        spool.make()
        write_file(file, png)
    left, top = corner_of(file.read_bytes(), recording.watermark.position, recording.width, recording.height)
    return Watermark(file, left, top)


def access_of(recording: Recording, settings: Settings, records: Records) -> PageAccess:
    """The client's credentials and parameters for the page."""
    sealed = records.sealed_target(recording.id, PAGE_ACCESS)
    if sealed is None:
        return PageAccess()
    return open_access(Sealer(load_secret_key(settings)), recording.id, sealed)


def plan_of(
    recording: Recording,
    settings: Settings,
    watermark: Watermark | None = None,
    access: PageAccess | None = None,
) -> Plan:
    """The recorder's plan for a recording on this node."""
    recording = open_urls(recording, Sealer(load_secret_key(settings)))
    opening = opening_of(recording, access or PageAccess(), settings)
    return Plan(
        url=opening.url,
        format=format_of(recording),
        contract=contract_of(recording, settings),
        max_seconds=recording.max_seconds,
        join_seconds=settings.join_seconds,
        join_tries=settings.join_tries,
        chromium=settings.chromium,
        authorities=nss_database(settings.ca_file, settings.data_dir),
        address_rule=settings.address_rule,
        always_allowed=settings.built_in_meetings,
        local_tls=settings.local_tls,
        udp=settings.webrtc_udp,
        paused=recording.status is Status.PAUSED,
        limits=Limits(settings.disk_reserve // 2, settings.empty_seconds),
        stage_limits=settings.stage_limits,
        watermark=watermark,
        hints=opening.hints,
        secrets=opening.secrets,
        access=opening.access,
        timed_texts=recording.timed_texts,
        had_company=recording.had_company,
        environment=environment_of(recording, settings),
        take_overs=take_overs(recording.timeline),
        elsewhere=recorded_elsewhere(recording.timeline, spool_of(recording, settings).numbers()),
    )
