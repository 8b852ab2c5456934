"""The plan of a recording: everything that its recorder needs to know, as data."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.browser_bot.network.udp_policy import UdpPolicy
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.page.hints import NO_HINTS, PageHints
from recording_farm.browser_bot.page.site_access import NO_ACCESS, SiteAccess
from recording_farm.browser_bot.stage.box import NO_LIMITS as NO_STAGE_LIMITS
from recording_farm.browser_bot.stage.box import StageLimits
from recording_farm.browser_bot.stage.environment import DEFAULT_ENVIRONMENT, Environment
from recording_farm.encoder.formats import Format
from recording_farm.encoder.takes.command import Watermark
from recording_farm.farm.recorder.monitor import NO_LIMITS, Limits
from recording_farm.farm.recorder.opened_stage import StageNeeds
from recording_farm.farm.recording.timeline import NOTHING, Elsewhere


@dataclass(frozen=True)
class Plan:
    """What to record: the page, how it is opened, how it is encoded, and for how long at most.

    `address_rule` None lets the browser open every address; otherwise `udp` says where the packets of WebRTC
    may go. A plan that is `paused` waits for a resume before its next take. `limits` end the recording or
    replace its stage; a page that breaks `stage_limits` gets another one. The `watermark` is drawn unless the
    page's own recording SDK draws it. `secrets` are parts of the URL. `elsewhere` is what other nodes
    recorded, `take_overs` how often another node took the recording over. With `timed_texts` the texts that
    the page sends for the file are kept in the spool. `had_company`: other nodes saw somebody in the meeting.
    `environment` is the page's language, time zone and devices; `access` has passwords, headers and cookies
    for its server.
    """

    url: str
    format: Format
    contract: PageContract = PageContract.AUTO
    max_seconds: float | None = None
    join_seconds: float = 30
    join_tries: int = 3
    chromium: Path | None = None
    address_rule: AddressRule | None = None
    always_allowed: Collection[str] = ()
    local_tls: Collection[str] = ()
    paused: bool = False
    limits: Limits = NO_LIMITS
    watermark: Watermark | None = None
    hints: PageHints = NO_HINTS
    secrets: tuple[str, ...] = ()
    elsewhere: Elsewhere = NOTHING
    take_overs: int = 0
    timed_texts: bool = False
    had_company: bool = False
    environment: Environment = DEFAULT_ENVIRONMENT
    access: SiteAccess = NO_ACCESS
    authorities: Path | None = None
    udp: UdpPolicy = UdpPolicy.FILTERED
    stage_limits: StageLimits = NO_STAGE_LIMITS

    @property
    def stage(self) -> StageNeeds:
        """The stage that it needs."""
        picture = self.format
        # `farm record` takes a URL with a user name and a password, which the browser itself answers with.
        credentials = bool(self.access.credentials) or "@" in urlsplit(self.url).netloc
        return StageNeeds(
            picture.width,
            picture.height,
            picture.fps,
            self.chromium,
            self.address_rule,
            self.always_allowed,
            self.local_tls,
            replace(self.environment, credentials=credentials),
            self.authorities,
            self.udp,
            self.stage_limits,
        )
