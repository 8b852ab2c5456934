"""The meaning of each code in a recording, and what to do about it: docs/troubleshooting.md is made of these.

A test checks that no code is missing here.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from recording_farm.farm.recording.findings import Finding
from recording_farm.farm.recording.model import ReasonKind


class Explanation(NamedTuple):
    """The meaning of a code, and what to do."""

    meaning: str
    remedy: str


NOTHING: Final = "Nothing."

FAILURES: Final[Mapping[str, Explanation]] = {
    "disk_full": Explanation(
        "The node's disk was nearly full. The recording up to that moment is kept.",
        "Free disk space on the node, or record on fewer slots; see `FARM_DISK_RESERVE`.",
    ),
    "ended_before_start": Explanation(
        "The page said that the meeting is over before the first frame was recorded; there is no file.",
        "Check that the meeting runs, and the parameters of its URL.",
    ),
    "no_free_slot": Explanation(
        "No node had a free slot within `FARM_INVOKE_TIMEOUT`.",
        "Start it again; run more workers, or raise `FARM_SLOTS`. `/nodes` in the portal shows why a node "
        "accepts none.",
    ),
    "node_lost": Explanation(
        "The node is gone, and the store has no replica of the recording.",
        "Bring the node back: it uploads what it still has. Otherwise record again.",
    ),
    "node_shut_down": Explanation(
        "The node was shut down. The recording up to that moment is kept.",
        "Drain a node before you stop it (`FARM_DRAIN_SECONDS`).",
    ),
    "not_queued": Explanation(
        "The recording was accepted but never reached the queue, because Redis failed in between.",
        "Start it again.",
    ),
    "nothing_recorded": Explanation(
        "No take of the recording is readable, so there is no file.",
        "Read the log in the evidence; the takes are set aside on the node.",
    ),
    "recorder_died": Explanation(
        "The recorder's process died too often. The recording up to that moment is kept, if there is any.",
        "Start it again; the evidence has the crash report. Often the machine is out of memory.",
    ),
    "recording_failed": Explanation(
        "The page did not load or did not admit the recorder, or something broke too often. `error.message` "
        "says what.",
        "Open the page's URL yourself; look at the screenshot in the evidence "
        "(`GET /recordings/{id}/evidence`).",
    ),
    "stopped_before_start": Explanation(
        "The recording was stopped before its first frame; there is no file.", NOTHING
    ),
}
"""By `error.code` of a recording."""

STOP_REASONS: Final[Mapping[ReasonKind, Explanation]] = {
    ReasonKind.API_CALL: Explanation("A client of the API, or a person in the portal, stopped it.", NOTHING),
    ReasonKind.STOPPED_BEFORE_START: Explanation("It was stopped before its first frame.", NOTHING),
    ReasonKind.MAX_DURATION: Explanation(
        "It reached `max_seconds`.", "Raise `max_seconds`, up to `FARM_MAX_SECONDS`."
    ),
    ReasonKind.PAGE_ENDED: Explanation("The page said that the meeting is over.", NOTHING),
    ReasonKind.ALL_PEERS_LEFT: Explanation(
        "Nobody else was in the meeting for `FARM_EMPTY_SECONDS`.", "Raise `FARM_EMPTY_SECONDS`; 0 is never."
    ),
    ReasonKind.NODE_SHUT_DOWN: Explanation(
        "The node was shut down while it recorded.", "Drain a node before you stop it."
    ),
    ReasonKind.INTERNAL_ERROR: Explanation(
        "Something broke, or the farm ended it; `error` says what.", "Look up `error.code` above."
    ),
}
"""By `stop_reason.reason` of a recording."""

FINDINGS: Final[Mapping[Finding, Explanation]] = {
    Finding.SOUND_ELSEWHERE: Explanation(
        "The page plays to another audio device than the recorded one.",
        "The farm moves it back. A page that chooses a device should use the default one.",
    ),
    Finding.NO_SOUND: Explanation(
        "Participants speak, and the page plays nothing.",
        "Check that the page plays without a click (autoplay), and that it is not muted.",
    ),
    Finding.FROZEN_PICTURE: Explanation(
        "The picture does not change, and the browser draws nothing.", "The farm restarts the browser."
    ),
    Finding.FROZEN_VIDEO: Explanation(
        "The picture does not change, although a video in the page moves.", "The farm restarts the browser."
    ),
    Finding.FOREIGN_WINDOW: Explanation(
        "A window other than the page was on the display.", "Look at the frame; the farm closes such windows."
    ),
    Finding.COVERED_PICTURE: Explanation(
        "A window covers the page and does not close.", "The farm restarts the browser."
    ),
    Finding.BLACK_PICTURE: Explanation(
        "The picture is black.", "See *Black picture* above; the farm keeps a screenshot as evidence."
    ),
    Finding.BLANK_PICTURE: Explanation(
        "The page shows one color only, although somebody was in the meeting.",
        "Read the page's console in the log of the evidence.",
    ),
    Finding.PAGE_OFFLINE: Explanation("The browser has no network.", "Check the network of the node."),
    Finding.PAGE_CUT_OFF: Explanation(
        "The page has lost all its connections to the meeting.",
        "The farm loads the page again. Check the network of the node and the meeting's servers.",
    ),
    Finding.DISK_FULL: Explanation("The node's disk is nearly full.", "Free disk space on the node."),
    Finding.MEMORY: Explanation(
        "Browser, display and audio used more memory than `FARM_STAGE_MEMORY`.",
        "The farm restarted the browser; the third time within five minutes ends the recording. Raise "
        "`FARM_STAGE_MEMORY`, or record a lighter page.",
    ),
    Finding.STAGE_DISK: Explanation(
        "The page filled the disk that its browser may use, `FARM_STAGE_DISK`.",
        "The farm restarted the browser; the third time within five minutes ends the recording. Raise "
        "`FARM_STAGE_DISK` if the page needs that much.",
    ),
    Finding.STAGE_TASKS: Explanation(
        "The page started more than 2000 processes and threads.",
        "The farm restarted the browser; the third time within five minutes ends the recording. Look for "
        "workers or frames that the page starts without end.",
    ),
    Finding.ENCODER_SLOW: Explanation(
        "The encoder is slower than real time.",
        "Fewer slots for each node, a smaller picture, a lower `fps`, or a cheaper `profile`.",
    ),
    Finding.MEETING_EMPTY: Explanation("Nobody sends audio or video to the page.", NOTHING),
}
"""By their names in `quality.findings` and the timeline."""

STORAGE: Final[Mapping[str, Explanation]] = {
    "address_refused": Explanation(
        "The storage is at a private address.", "Let the operator allow it: `FARM_ALLOW_PRIVATE_ADDRESSES`."
    ),
    "bad_answer": Explanation(
        "The server answers more than a storage does, or what nobody asked for.",
        "Check that `endpoint` or `host` is the storage; the farm reads 2 MiB of an answer.",
    ),
    "bad_certificate": Explanation(
        "The server's TLS certificate is not valid.",
        "Renew it, or let the operator add its authority to `FARM_CA_FILE`.",
    ),
    "bad_path": Explanation("The path of the file is not possible there.", "Correct `path`."),
    "bad_tags": Explanation("S3 rejects the tags.", "Correct `tags`: at most 10, no `aws:` prefix."),
    "damaged": Explanation("The file was damaged in transit or in the store.", "The farm tries again."),
    "encrypted": Explanation(
        "The store has the file encrypted, and this process does not decrypt.",
        "Set `FARM_STORE_ENCRYPTION=on` on all machines.",
    ),
    "expired_credentials": Explanation(
        "Temporary credentials have expired.", "Give new ones with `POST /recordings/{id}/upload`."
    ),
    "failed": Explanation(
        "The storage answered with an unexpected error.",
        "The farm tries again; the message has the server's answer.",
    ),
    "farm_settings": Explanation(
        "A setting of the node is wrong.", "The operator finds the setting in the message."
    ),
    "full": Explanation("The disk is full, or a quota is exceeded.", "Make room; the farm tries again."),
    "no_bucket": Explanation("The bucket, container or directory does not exist.", "Create it."),
    "no_keys": Explanation(
        "The farm no longer has the keys of this storage.",
        "Give them with `POST /recordings/{id}/upload`.",
    ),
    "no_permission": Explanation(
        "The key is valid, but may not write there.",
        "Allow it to write (`s3:PutObject`, `sp=cw`, Storage Object Creator).",
    ),
    "node_lost": Explanation("The node with the files is gone.", "Bring the node back."),
    "not_found": Explanation("The file is not there.", "Upload again."),
    "redirected": Explanation(
        "The server redirects requests, which the farm does not follow.",
        "Set `endpoint` to the address to which it redirects.",
    ),
    "timed_out": Explanation("The storage did not answer in time.", "The farm tries again."),
    "too_slow": Explanation("The upload was too slow.", "The farm tries again and resumes it."),
    "unreachable": Explanation(
        "The storage does not resolve, or refuses the connection.", "Check `endpoint`, `region` or `host`."
    ),
    "wrong_host_key": Explanation(
        "The SFTP server has another host key than expected.",
        "Check that it is your server, then set its key as `host_key`.",
    ),
    "wrong_key": Explanation("The storage rejects the credentials.", "Give valid ones."),
    "wrong_region": Explanation("The bucket is in another region.", "Correct `region`."),
}
"""By `error.code` of a transfer, and `code` of `POST /storage/check`."""
