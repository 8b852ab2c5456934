"""Admission: whether a node may begin another recording now, or leaves it in the queue."""

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.host.resources import RECORDING_MEMORY, Free


def refusal(free: Free, settings: Settings, *, records_already: bool, room_for_cuts: int = 0) -> str | None:
    """Why no recording may begin here now, in words for the log; None if one may.

    What the cuts of recordings need that are here already, in bytes of disk, is not free for another one.
    Busy processors keep only a node waiting that records already: its recordings would lose frames. One that
    records nothing would wait for ever if it is others who keep the machine busy.
    """
    if free.disk < settings.disk_reserve + room_for_cuts:
        needed = f", {room_for_cuts >> 20} are needed to cut what is recorded" if room_for_cuts else ""
        reserve = f"FARM_DISK_RESERVE is {settings.disk_reserve >> 20}"
        return f"{free.disk >> 20} MiB of disk are free{needed}; {reserve}"
    if free.memory < RECORDING_MEMORY:
        return f"{free.memory >> 20} MiB of memory are free; a recording takes {RECORDING_MEMORY >> 20}"
    busy = 1 - free.processors
    if records_already and busy > settings.max_load:
        return f"the processors are busy for {busy:.0%} of the time; FARM_MAX_LOAD is {settings.max_load:.0%}"
    return None
