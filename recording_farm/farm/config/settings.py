"""All settings of the farm: environment variables `FARM_*`, read once at startup.

`farm config --markdown` generates docs/settings.md from the descriptions here.
"""

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, NamedTuple
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from recording_farm.browser_bot.network.addresses import AddressRule, parse_address_rule
from recording_farm.browser_bot.network.udp_policy import UdpPolicy
from recording_farm.browser_bot.stage.box import MAX_TASKS, StageLimits
from recording_farm.farm.config.parsing import (
    OrganizationKey,
    absolute_path,
    check_address_rule,
    check_ca_file,
    check_file_url,
    check_meeting_url,
    check_redis_url,
    check_store_url,
    check_websocket_url,
    parse_api_keys,
    parse_bytes,
    parse_host,
    parse_ice_url,
    parse_locale,
    parse_networks,
    parse_organization_names,
    parse_organizations,
    parse_origin,
    parse_public_url,
    parse_seconds,
    parse_timezone,
    split_at_commas,
)
from recording_farm.farm.config.store_url import StoreKind, StoreLocation, parse_store_url
from recording_farm.farm.errors import SettingsError
from recording_farm.farm.host.resources import cores, memory, slots_for

MEETING_PATH = "/meet/"
"""Path of the built-in meeting; the meeting's id follows."""

MEETING_ASSETS_PATH = "/meet-assets/"
"""Path of the files of its page."""

MEETING_ROOMS_PATH = "/meet-rooms/"
"""Path of its signaling."""

FIRST_ORGANIZATION = "default"
"""The organization of the API key that the first start creates."""

_MAX_SOCKET_PATH = 100
"""Bytes; the kernel's limit is 107."""

_WILDCARD_HOSTS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - compared, not bound


class Group(StrEnum):
    """The groups of settings, in the order of docs/settings.md; each value is a heading there."""

    BASICS = "Basics"
    ACCESS = "API and access"
    STORAGE = "Storage"
    RECORDINGS = "Recordings"
    PAGES = "Pages and meetings"
    WEBHOOKS = "Webhooks"
    NODES = "Nodes"
    OBSERVABILITY = "Logs and metrics"


class About(NamedTuple):
    """Documentation of a setting, besides its description and default."""

    group: Group
    example: str
    modules: tuple[str, ...]
    unit: str


def _about(group: Group, example: str, *modules: str, unit: str = "") -> dict[str, JsonValue]:
    return {"group": group, "example": example, "modules": list(modules), "unit": unit}


class LogFormat(StrEnum):
    """Format of the log on standard error."""

    AUTO = "auto"
    """Text on a terminal, otherwise JSON."""
    JSON = "json"
    TEXT = "text"


class LogLevel(StrEnum):
    """Lowest level of the log on standard error."""

    INFO = "info"
    NOTICE = "notice"
    WARNING = "warning"
    ERROR = "error"


def _slots() -> int:
    return min(slots_for(cores(), memory()), 256)


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:64] or "node"


class Settings(BaseSettings):
    """The settings of one process of the farm.

    Read them with `load_settings`, which turns invalid values into one SettingsError.
    """

    model_config = SettingsConfigDict(env_prefix="FARM_", env_ignore_empty=True, extra="ignore", frozen=True)

    data_dir: Annotated[Path, AfterValidator(absolute_path)] = Field(
        json_schema_extra=_about(Group.BASICS, "/var/lib/recording-farm", "farm/config/settings.py"),
        default=Path("data"),
        description="Directory of all data: finished files, takes, keys, the embedded Redis.",
    )
    host: str = Field(
        json_schema_extra=_about(Group.BASICS, "192.0.2.10", "api/server.py"),
        default="127.0.0.1",
        description="Address that the API listens on; 0.0.0.0 for all.",
    )
    port: int = Field(
        json_schema_extra=_about(Group.BASICS, "8080", "api/server.py"),
        default=8000,
        ge=1,
        le=65535,
        description="Port that the API listens on.",
    )
    slots: int = Field(
        json_schema_extra=_about(
            Group.BASICS, "4", "farm/host/resources.py", "farm/worker/main.py", unit="recordings"
        ),
        default_factory=_slots,
        ge=1,
        le=256,
        description="Concurrent recordings of this node. The default allows 0.8 of a core and 1 GiB of "
        "memory for each.",
    )
    redis_url: Annotated[str, AfterValidator(check_redis_url)] | None = Field(
        json_schema_extra=_about(
            Group.BASICS,
            "redis://:password@redis.example.com:6379/0",
            "farm/config/redis_url.py",
            "farm/db/clients.py",
        ),
        default=None,
        repr=False,
        description="Redis to use: redis://, rediss:// (TLS), unix://, or "
        "redis+sentinel://host:26379,host:26379/master/0 (rediss+ for TLS). Without it `farm "
        "up` starts its own.",
    )
    api_keys: Annotated[tuple[OrganizationKey, ...], NoDecode, BeforeValidator(parse_api_keys)] = Field(
        json_schema_extra=_about(Group.ACCESS, "acme:a-long-random-key", "farm/credentials/api_keys.py"),
        default=(),
        description="API keys as organization:key, separated by commas, besides those of `farm keys`. If "
        "there are neither, the first start creates one key and prints it once.",
    )
    admins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_organizations)] = Field(
        json_schema_extra=_about(Group.ACCESS, "acme", "farm/credentials/api_keys.py"),
        default=(),
        description="Organizations whose keys are administrators', separated by commas: they see nodes "
        "and queues in the portal.",
    )
    rate_limit: int = Field(
        json_schema_extra=_about(
            Group.ACCESS, "600", "api/services/rate_limit.py", unit="requests per minute"
        ),
        default=2000,
        ge=0,
        le=10_000_000,
        description="Requests per minute of an organization with all its API keys, and of each host link and "
        "participant; 0 for no limit.",
    )
    quota_queued: int = Field(
        json_schema_extra=_about(
            Group.ACCESS, "100", "farm/recording/quotas.py", "farm/recording/records.py", unit="recordings"
        ),
        default=2000,
        ge=0,
        le=10_000_000,
        description="Recordings of an organization that may wait for their start; one more is rejected with "
        "429. 0 for no limit. `farm quotas` sets it for one organization.",
    )
    quota_running: int = Field(
        json_schema_extra=_about(
            Group.ACCESS, "20", "farm/recording/quotas.py", "farm/queues/fair_queue.py", unit="recordings"
        ),
        default=0,
        ge=0,
        le=10_000_000,
        description="Concurrent recordings of an organization; further ones wait in the queue. 0 for no "
        "limit. `farm quotas` sets it for one organization.",
    )
    high_priority: Annotated[tuple[str, ...], NoDecode, BeforeValidator(parse_organizations)] | None = Field(
        json_schema_extra=_about(Group.ACCESS, "acme,umbra", "farm/recording/quotas.py"),
        default=None,
        description="Organizations that may start recordings with `priority` high, before those of all "
        "others, separated by commas; the administrators' by default.",
    )
    failure_limit: int = Field(
        json_schema_extra=_about(
            Group.ACCESS, "20", "api/services/rate_limit.py", unit="attempts per minute"
        ),
        default=60,
        ge=0,
        le=10_000_000,
        description="Wrong API keys per minute from each client address; 0 for no limit.",
    )
    trusted_proxies: Annotated[str, AfterValidator(parse_networks)] = Field(
        json_schema_extra=_about(Group.ACCESS, "10.0.0.0/8", "api/server.py"),
        default="",
        description="Addresses or networks of reverse proxies, separated by commas, whose X-Forwarded-For "
        "is trusted.",
    )
    connections_per_address: int = Field(
        json_schema_extra=_about(Group.ACCESS, "1000", "api/server.py", unit="connections"),
        default=256,
        ge=0,
        le=100_000,
        description="Connections that a client address (IPv6: a /64) may have open at the API at the same "
        "time, or, behind a trusted proxy, its requests; 0 for no limit.",
    )
    chromium: Path | None = Field(
        json_schema_extra=_about(Group.PAGES, "/opt/google/chrome/chrome", "browser_bot/stage/programs.py"),
        default=None,
        description="Chromium to use, instead of the first one on PATH.",
    )
    fake_devices: bool = Field(
        json_schema_extra=_about(
            Group.PAGES, "off", "browser_bot/stage/environment.py", "farm/pages/access.py"
        ),
        default=True,
        description="`on` gives pages a silent microphone and a dark camera; `off` gives them none.",
    )
    locale: Annotated[str, AfterValidator(parse_locale)] | None = Field(
        json_schema_extra=_about(
            Group.PAGES, "de-AT", "browser_bot/stage/environment.py", "farm/pages/access.py"
        ),
        default=None,
        description="Language of the browser for recordings that set none, such as de-AT; en-US by default.",
    )
    timezone: Annotated[str, AfterValidator(parse_timezone)] | None = Field(
        json_schema_extra=_about(
            Group.PAGES, "Europe/Vienna", "browser_bot/stage/environment.py", "farm/pages/access.py"
        ),
        default=None,
        description="Time zone of the browser for recordings that set none, such as Europe/Vienna; the "
        "machine's by default.",
    )
    meeting_url: Annotated[str, AfterValidator(check_meeting_url)] | None = Field(
        json_schema_extra=_about(
            Group.PAGES,
            "https://meet.example.com/{meeting_id}",
            "farm/config/settings.py",
            "api/routes/start_request.py",
        ),
        default=None,
        description="URL of a meeting's page for recordings that set none, with {meeting_id} in it; the "
        "built-in meeting by default.",
    )
    ice_servers: Annotated[
        tuple[Annotated[str, AfterValidator(parse_ice_url)], ...], NoDecode, BeforeValidator(split_at_commas)
    ] = Field(
        json_schema_extra=_about(Group.PAGES, "stun:stun.example.com:3478", "api/meeting/ice.py"),
        default=(),
        max_length=8,
        description="STUN and TURN servers (stun:host:port, turn:host:port or turns:host:port, separated by "
        "commas) of the built-in meeting, for participants in different networks.",
    )
    turn_secret: SecretStr | None = Field(
        json_schema_extra=_about(Group.PAGES, "SECRET", "api/meeting/ice.py"),
        default=None,
        min_length=1,
        description="Secret shared with the TURN servers (coturn's static-auth-secret); each participant "
        "gets credentials that expire after a day.",
    )
    turn_user: str | None = Field(
        json_schema_extra=_about(Group.PAGES, "farm", "api/meeting/ice.py"),
        default=None,
        description="Fixed user name at TURN servers that have no shared secret.",
    )
    turn_password: SecretStr | None = Field(
        json_schema_extra=_about(Group.PAGES, "PASSWORD", "api/meeting/ice.py"),
        default=None,
        description="Its password.",
    )
    public_url: Annotated[str, AfterValidator(parse_public_url)] | None = Field(
        json_schema_extra=_about(Group.BASICS, "https://recordings.example.com", "farm/config/settings.py"),
        default=None,
        description="URL of the API for clients, used in download links; http://host:port by default, "
        "or https with FARM_TLS_CERTIFICATE.",
    )
    ca_file: Annotated[Path, AfterValidator(absolute_path), AfterValidator(check_ca_file)] | None = Field(
        json_schema_extra=_about(Group.ACCESS, "/etc/ssl/company-ca.pem", "farm/host/ca_file.py"),
        default=None,
        description="PEM file of certificate authorities to trust besides the system's: by the browser, "
        "and for webhooks, watermarks, storage, live outputs, Redis and traces.",
    )
    tls_certificate: Annotated[Path, AfterValidator(absolute_path)] | None = Field(
        json_schema_extra=_about(
            Group.ACCESS, "/etc/letsencrypt/live/example.com/fullchain.pem", "farm/host/tls_files.py"
        ),
        default=None,
        description="PEM file of the API's certificate with its chain; then the API speaks HTTPS at "
        "FARM_PORT. It is loaded again when the file changes.",
    )
    tls_key: Annotated[Path, AfterValidator(absolute_path)] | None = Field(
        json_schema_extra=_about(
            Group.ACCESS, "/etc/letsencrypt/live/example.com/privkey.pem", "farm/host/tls_files.py"
        ),
        default=None,
        description="PEM file of the certificate's private key, without a passphrase.",
    )
    cors_origins: Annotated[
        tuple[Annotated[str, AfterValidator(parse_origin)], ...], NoDecode, BeforeValidator(split_at_commas)
    ] = Field(
        json_schema_extra=_about(Group.ACCESS, "https://app.example.com", "api/cors.py"),
        default=(),
        max_length=100,
        description="Origins whose pages may use the API, such as https://app.example.com, separated by "
        "commas, or `*` for any; only the farm's own by default.",
    )
    allow_private_addresses: Annotated[str, AfterValidator(check_address_rule)] = Field(
        json_schema_extra=_about(Group.ACCESS, "10.0.0.0/8,fd00::/8", "browser_bot/network/addresses.py"),
        default="",
        description="Private networks that pages, webhooks, storage and live outputs may reach, such as "
        "10.0.0.0/8,fd00::/8, or `all`; "
        "none by default.",
    )
    webrtc_udp: UdpPolicy = Field(
        json_schema_extra=_about(
            Group.ACCESS, "off", "browser_bot/network/udp_policy.py", "browser_bot/stage/network.py"
        ),
        default=UdpPolicy.FILTERED,
        description="UDP packets of pages' WebRTC: `filtered` lets them go to public addresses and those of "
        "FARM_ALLOW_PRIVATE_ADDRESSES, and turns them off on a machine that cannot filter them; `off` sends "
        "none; `open` lets them go anywhere.",
    )
    link_seconds: int = Field(
        json_schema_extra=_about(Group.ACCESS, "3600", "farm/recording/links.py", unit="s"),
        default=7 * 86400,
        ge=1,
        le=365 * 86400,
        description="Lifetime of a download link.",
    )
    store_url: Annotated[str, AfterValidator(check_store_url)] | None = Field(
        json_schema_extra=_about(
            Group.STORAGE,
            "s3://recordings/farm?region=eu-central-1",
            "farm/config/store_url.py",
            "farm/storage/store.py",
        ),
        default=None,
        repr=False,
        description="Store of finished files: file:///directory, "
        "s3://bucket/prefix?endpoint=https://…&region=…, or azure://container/prefix; `store` "
        "in the data directory by default.",
    )
    store_access_key: str | None = Field(
        json_schema_extra=_about(
            Group.STORAGE, "AKIAEXAMPLE", "farm/config/store_url.py", "farm/storage/store.py"
        ),
        default=None,
        description="Access key of an s3:// store; AWS's own variables or the machine's role by default.",
    )
    store_secret: SecretStr | None = Field(
        json_schema_extra=_about(
            Group.STORAGE, "the-secret-of-that-key", "farm/config/store_url.py", "farm/storage/store.py"
        ),
        default=None,
        description="Secret of an s3:// store's access key, or the connection string of an azure:// store.",
    )
    store_encryption: bool = Field(
        json_schema_extra=_about(Group.STORAGE, "on", "farm/config/store_url.py", "farm/storage/store.py"),
        default=False,
        description="`on` encrypts the files of a file:// store with FARM_SECRET_KEY.",
    )
    retention: Annotated[int, BeforeValidator(parse_seconds)] = Field(
        json_schema_extra=_about(
            Group.STORAGE,
            "30d",
            "farm/jobs/retention.py",
            "farm/recording/links.py",
            unit="s, or a number with m, h, d",
        ),
        default=7 * 86400,
        ge=0,
        le=100 * 365 * 86400,
        description="How long finished files are kept; then they are deleted. 0 keeps them for ever.",
    )
    transfers: int = Field(
        json_schema_extra=_about(Group.STORAGE, "8", "farm/worker/main.py", unit="uploads"),
        default=4,
        ge=1,
        le=64,
        description="Concurrent uploads of this node to customers' storage.",
    )
    max_seconds: int = Field(
        json_schema_extra=_about(
            Group.RECORDINGS, "14400", "api/rules.py", "farm/recorder/recorded_time.py", unit="s"
        ),
        default=86400,
        ge=1,
        le=86400,
        description="Maximum length of a recording; a recording may ask for less.",
    )
    empty_seconds: int = Field(
        json_schema_extra=_about(Group.RECORDINGS, "120", "farm/recorder/monitor.py", unit="s"),
        default=60,
        ge=0,
        le=86400,
        description="A recording ends this long after all participants have left; 0 for never.",
    )
    join_seconds: int = Field(
        json_schema_extra=_about(
            Group.RECORDINGS, "60", "browser_bot/page/opening.py", "browser_bot/page/readiness.py", unit="s"
        ),
        default=30,
        ge=1,
        le=600,
        description="Time for a page to load, all tries together.",
    )
    join_tries: int = Field(
        json_schema_extra=_about(
            Group.RECORDINGS,
            "5",
            "browser_bot/page/opening.py",
            "browser_bot/page/readiness.py",
            unit="tries",
        ),
        default=3,
        ge=1,
        le=10,
        description="Tries to load a page.",
    )
    invoke_timeout: int = Field(
        json_schema_extra=_about(Group.RECORDINGS, "1800", "farm/recovery/unclaimed.py", unit="s"),
        default=600,
        ge=1,
        le=86400,
        description="How long a recording waits for a free slot; then it is ERRORED.",
    )
    drain_seconds: int = Field(
        json_schema_extra=_about(Group.NODES, "3600", "farm/worker/slot.py", "farm/cli/up.py", unit="s"),
        default=0,
        ge=0,
        le=90_000,
        description="Grace period of a shutdown: a node that receives SIGTERM waits this long for its "
        "recordings, then ends them properly. A second signal kills it at once; its next "
        "start resumes them.",
    )
    disk_reserve: Annotated[int, BeforeValidator(parse_bytes)] = Field(
        json_schema_extra=_about(
            Group.STORAGE,
            "5G",
            "farm/worker/admission.py",
            "farm/jobs/plan.py",
            "farm/recorder/monitor.py",
            unit="bytes, or a number with K, M, G, T",
        ),
        default=2 << 30,
        ge=0,
        description="Free disk to keep beyond what pending cuts need. Below it a node accepts no "
        "recordings; below half of it, running ones are ended properly.",
    )
    max_load: float = Field(
        json_schema_extra=_about(Group.NODES, "0.8", "farm/worker/admission.py", unit="share, 0 to 1"),
        default=0.9,
        gt=0,
        le=1,
        description="CPU load above which a node that already records accepts no more recordings; 1 for "
        "no limit.",
    )
    stage_memory: Annotated[int, BeforeValidator(parse_bytes)] = Field(
        json_schema_extra=_about(
            Group.RECORDINGS, "3G", "browser_bot/stage/box.py", unit="bytes, or a number with K, M, G, T"
        ),
        default=4 << 30,
        ge=0,
        description="Memory limit of the browser, display and audio of a recording, with their files "
        "(FARM_STAGE_DISK); above it they are restarted. 0 for no limit.",
    )
    stage_disk: Annotated[int, BeforeValidator(parse_bytes)] = Field(
        json_schema_extra=_about(
            Group.RECORDINGS, "1G", "browser_bot/stage/box.py", unit="bytes, or a number with K, M, G, T"
        ),
        default=512 << 20,
        ge=0,
        description="Disk limit of the browser of a recording: its profile, caches, temporary files and what "
        "the page stores. Where the machine allows it, this disk is in memory. 0 for no limit.",
    )
    node_patience: Annotated[int, BeforeValidator(parse_seconds)] = Field(
        json_schema_extra=_about(
            Group.NODES,
            "6h",
            "farm/nodes/registry.py",
            "farm/recovery/lost_nodes.py",
            unit="s, or a number with m, h, d",
        ),
        default=3600,
        ge=0,
        le=30 * 86400,
        description="How long to wait for a lost node that still holds finished recordings; then those "
        "without a replica in the store are ERRORED.",
    )
    event_streams: int = Field(
        json_schema_extra=_about(Group.ACCESS, "20", "farm/recording/feeds.py", unit="connections"),
        default=100,
        ge=0,
        le=10_000,
        description="Concurrent event streams of an organization at each API process.",
    )
    secret_key: SecretStr | None = Field(
        json_schema_extra=_about(Group.BASICS, "`openssl rand -hex 32`", "farm/credentials/farm_secret.py"),
        default=None,
        min_length=16,
        description="Secret that signs download links and encrypts customers' keys; all machines of a "
        "farm need the same. By default one is created in the data directory.",
    )
    webhook_key: Annotated[Path, AfterValidator(absolute_path)] | None = Field(
        json_schema_extra=_about(
            Group.WEBHOOKS, "/etc/recording-farm/webhook.pem", "farm/webhooks/signature.py"
        ),
        default=None,
        description="PEM file of the RSA private key that signs webhooks; all machines of a farm need the "
        "same. By default one is created in the data directory.",
    )
    webhook_senders: int = Field(
        json_schema_extra=_about(Group.WEBHOOKS, "4", "farm/worker/main.py", unit="processes"),
        default=2,
        ge=1,
        le=64,
        description="Processes of this node that send webhooks; each serves many receivers at once.",
    )
    webhook_timeout: float = Field(
        json_schema_extra=_about(Group.WEBHOOKS, "10", "farm/webhooks/sender.py", unit="s"),
        default=5.0,
        gt=0,
        le=60,
        description="Time for a receiver to answer a webhook.",
    )
    webhook_intervals: Annotated[
        tuple[Annotated[float, Field(gt=0, le=86400)], ...], NoDecode, BeforeValidator(split_at_commas)
    ] = Field(
        json_schema_extra=_about(Group.WEBHOOKS, "5,60,600,3600", "farm/webhooks/sender.py", unit="s"),
        default=(5, 15, 60, 300, 900, 3600, 7200, 14400, 14400, 14400, 14400, 14400),
        max_length=100,
        description="Pauses between tries to deliver a webhook, separated by commas; after the last one "
        "it is given up. The default grows from 5 s to 4 h and lasts a day.",
    )
    webhook_limit: int = Field(
        json_schema_extra=_about(Group.WEBHOOKS, "10", "farm/webhooks/registry.py", unit="webhooks"),
        default=50,
        ge=1,
        le=1000,
        description="Maximum number of webhooks of an organization.",
    )
    page_secret: SecretStr | None = Field(
        json_schema_extra=_about(
            Group.PAGES,
            "`openssl rand -hex 32`",
            "farm/pages/access.py",
            "api/services/participant_tokens.py",
        ),
        default=None,
        min_length=16,
        description="Secret that signs the `authToken` of pages with a recording SDK; without it they get "
        "the token of the request, or none. Participants' tokens that it signs (HS256) may "
        "start and stop recordings of their meeting.",
    )
    participant_jwks_url: Annotated[str, AfterValidator(check_file_url)] | None = Field(
        json_schema_extra=_about(
            Group.PAGES,
            "https://login.example.com/.well-known/jwks.json",
            "api/services/participant_keys.py",
            "api/services/participant_tokens.py",
        ),
        default=None,
        description="URL of the JSON Web Key Set (RS256, ES256) that verifies participants' tokens.",
    )
    participant_organizations: Annotated[
        tuple[tuple[str, str], ...], NoDecode, BeforeValidator(parse_organization_names)
    ] = Field(
        json_schema_extra=_about(
            Group.PAGES,
            "0e3b-aa=acme",
            "api/services/participant_keys.py",
            "api/services/participant_tokens.py",
        ),
        default=(),
        description="Organization for each orgId of participants' tokens, as orgId=organization, "
        "separated by commas; the same name by default.",
    )
    livekit_url: Annotated[str, AfterValidator(check_websocket_url)] | None = Field(
        json_schema_extra=_about(
            Group.PAGES, "wss://livekit.example.com", "farm/pages/access.py", "farm/pages/tokens.py"
        ),
        default=None,
        description="LiveKit server (wss://…) whose room templates are recorded.",
    )
    livekit_key: str | None = Field(
        json_schema_extra=_about(Group.PAGES, "APIexample", "farm/pages/access.py", "farm/pages/tokens.py"),
        default=None,
        description="API key of the LiveKit server.",
    )
    livekit_secret: SecretStr | None = Field(
        json_schema_extra=_about(
            Group.PAGES, "the-secret-of-that-key", "farm/pages/access.py", "farm/pages/tokens.py"
        ),
        default=None,
        description="API secret of the LiveKit server.",
    )
    jitsi_hosts: Annotated[
        tuple[Annotated[str, AfterValidator(parse_host)], ...], NoDecode, BeforeValidator(split_at_commas)
    ] = Field(
        json_schema_extra=_about(
            Group.PAGES, "meet.example.com", "farm/pages/access.py", "farm/pages/tokens.py"
        ),
        default=("meet.jit.si", "8x8.vc"),
        description="Hosts of Jitsi Meet, separated by commas; their meetings are joined without a "
        "pre-join page.",
    )
    node: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = Field(
        json_schema_extra=_about(Group.NODES, "worker-1", "farm/nodes/registry.py"),
        default_factory=_host_name,
        description="Name of this machine in the farm; its host name by default.",
    )
    node_host: str = Field(
        json_schema_extra=_about(Group.NODES, "192.0.2.10", "farm/worker/node_server.py"),
        default="127.0.0.1",
        description="Address of FARM_NODE_PORT; any but the loopback's needs FARM_METRICS_TOKEN.",
    )
    node_port: int | None = Field(
        json_schema_extra=_about(Group.NODES, "9100", "farm/worker/node_server.py"),
        default=None,
        ge=1,
        le=65535,
        description="Port at which a worker answers /metrics and /healthz; none by default.",
    )
    metrics_token: SecretStr | None = Field(
        json_schema_extra=_about(Group.OBSERVABILITY, "`openssl rand -hex 32`", "farm/telemetry/metrics.py"),
        default=None,
        min_length=16,
        description="Bearer token for /metrics of API and nodes, 16 characters or more; without it only a "
        "node's on the loopback can be read.",
    )
    log_format: LogFormat = Field(
        json_schema_extra=_about(Group.OBSERVABILITY, "json", "farm/telemetry/logs.py"),
        default=LogFormat.AUTO,
        description="`json`, `text`, or `auto`: text on a terminal, JSON lines elsewhere.",
    )
    log_level: LogLevel = Field(
        json_schema_extra=_about(Group.OBSERVABILITY, "info", "farm/telemetry/logs.py"),
        default=LogLevel.NOTICE,
        description="`info`, `notice` (recordings that start and end, and warnings), `warning` or `error`; "
        "`farm -v` is `info`.",
    )

    @model_validator(mode="after")
    def _keep_metrics_private(self) -> "Settings":
        if self.node_port is not None and self.metrics_token is None and not is_loopback(self.node_host):
            raise ValueError("FARM_NODE_HOST is reachable from other machines; set FARM_METRICS_TOKEN too")
        return self

    @model_validator(mode="after")
    def _have_both_tls_files(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing = "FARM_TLS_CERTIFICATE" if self.tls_certificate is None else "FARM_TLS_KEY"
            raise ValueError(f"TLS needs a certificate and its key; set {missing} too, or neither")
        return self

    @model_validator(mode="after")
    def _have_turn_credentials(self) -> "Settings":
        fixed = self.turn_user is not None and self.turn_password is not None
        if any(url.startswith("turn") for url in self.ice_servers) and self.turn_secret is None and not fixed:
            raise ValueError(
                "FARM_ICE_SERVERS has a TURN server; set FARM_TURN_SECRET, or FARM_TURN_USER and "
                "FARM_TURN_PASSWORD"
            )
        return self

    @property
    def stage_limits(self) -> StageLimits:
        """The limits of each stage."""
        return StageLimits(self.stage_disk, self.stage_memory, MAX_TASKS)

    @property
    def administrators(self) -> frozenset[str]:
        """The organizations whose keys are administrators' keys."""
        if self.admins:
            return frozenset(self.admins)
        return frozenset({self.api_keys[0].organization_id if self.api_keys else FIRST_ORGANIZATION})

    @property
    def high_priority_organizations(self) -> frozenset[str]:
        """The organizations that may use the high priority, unless `farm quotas` says otherwise."""
        return self.administrators if self.high_priority is None else frozenset(self.high_priority)

    @property
    def redis_address(self) -> str:
        """Address of the Redis in use: FARM_REDIS_URL, or the embedded one."""
        return self.redis_url or self.embedded_redis_address

    @property
    def embedded_redis_address(self) -> str:
        """Address of the embedded Redis, whether or not it is in use."""
        return f"unix://{quote(str(self.redis_socket))}"

    @property
    def redis_socket(self) -> Path:
        """Socket of the embedded Redis: in the data directory, or in /tmp if that path is too long."""
        socket = self.data_dir / "redis" / "redis.sock"
        if len(os.fsencode(socket)) <= _MAX_SOCKET_PATH:
            return socket
        short = hashlib.sha256(os.fsencode(self.data_dir)).hexdigest()[:16]
        return Path("/tmp") / f"farm-redis-{os.geteuid()}-{short}" / "redis.sock"  # noqa: S108 - embedded_redis checks its owner

    @property
    def store_location(self) -> StoreLocation:
        """Location of the store of finished files."""
        if self.store_url is None:
            return StoreLocation(StoreKind.DIRECTORY, directory=self.data_dir / "store")
        return parse_store_url(self.store_url)

    @property
    def spool_dir(self) -> Path:
        """The spool: takes of unfinished recordings."""
        return self.data_dir / "spool"

    @property
    def live_dir(self) -> Path:
        """Temporary files of previews and live outputs."""
        return self.data_dir / "live"

    @property
    def slots_dir(self) -> Path:
        """Locks of slot numbers, in one directory for each node."""
        return self.data_dir / "slots"

    @property
    def superseded_dir(self) -> Path:
        """Takes of recordings that another node has resumed; a directory for each."""
        return self.data_dir / "superseded"

    @property
    def old_superseded_dir(self) -> Path:
        """The same, of version 0.1; nothing is added any more."""
        return self.data_dir / "left"

    @property
    def evidence_dir(self) -> Path:
        """Logs and screenshots of recordings; a directory for each."""
        return self.data_dir / "evidence"

    @property
    def carrying_dir(self) -> Path:
        """Temporary copies of evidence during its upload to the store."""
        return self.data_dir / "carrying"

    @property
    def own_directories(self) -> tuple[Path, ...]:
        """The directories that the farm makes in its data directory, with files of customers."""
        others = (self.data_dir / name for name in ("store", "redis"))
        return (
            *(self.spool_dir, self.live_dir, self.slots_dir, self.superseded_dir, self.old_superseded_dir),
            *(self.evidence_dir, self.carrying_dir, *others),
        )

    @property
    def local_url(self) -> str:
        """URL of the API for programs on this machine, without a trailing slash."""
        return local_address(self.host, self.port, secure=self.tls_certificate is not None)

    @property
    def local_page_origin(self) -> str:
        """Origin of the built-in meeting for browsers of this machine: http, also if the API has TLS.

        Their gateway connects by TLS then, whatever name the certificate has.
        """
        return local_address(self.host, self.port)

    @property
    def local_tls(self) -> frozenset[str]:
        """URL prefixes that the gateway opens by TLS instead of http: the local origin of an API with TLS."""
        return frozenset({f"{self.local_page_origin}/"} if self.tls_certificate is not None else ())

    @property
    def _origins(self) -> set[str]:
        return {self.local_page_origin, self.local_url, self.base_url}

    @property
    def base_url(self) -> str:
        """URL of the API for clients, without a trailing slash."""
        return self.public_url or self.local_url

    @property
    def built_in_meetings(self) -> frozenset[str]:
        """URL prefixes of the built-in meeting; the address rule does not apply to them."""
        paths = MEETING_PATH, MEETING_ASSETS_PATH, MEETING_ROOMS_PATH
        return frozenset(f"{origin}{path}" for origin in self._origins for path in paths)

    @property
    def built_in_pages(self) -> frozenset[str]:
        """URL prefixes of the built-in meeting's pages, without their assets."""
        return frozenset(f"{origin}{MEETING_PATH}" for origin in self._origins)

    @property
    def address_rule(self) -> AddressRule:
        """The rule that decides which addresses pages may be at."""
        return parse_address_rule(self.allow_private_addresses)

    def page_of(self, meeting_id: str) -> str:
        """Default page URL of a meeting."""
        template = self.meeting_url or f"{self.local_page_origin}{MEETING_PATH}{{meeting_id}}"
        return template.replace("{meeting_id}", quote(meeting_id, safe=""))


def about(name: str) -> About:
    """Documentation of the setting of a field."""
    extra = Settings.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    modules = extra["modules"]
    assert isinstance(modules, list)
    return About(
        Group(str(extra["group"])), str(extra["example"]), tuple(map(str, modules)), str(extra["unit"])
    )


def is_secret(name: str) -> bool:
    """Whether the value of a setting must be hidden."""
    field = Settings.model_fields[name]
    return not field.repr or name in {"api_keys", "store_access_key"} or "SecretStr" in str(field.annotation)


def local_address(host: str, port: int, *, secure: bool = False) -> str:
    """URL for programs on this machine of a server at `host` and `port`, without a trailing slash."""
    host = _WILDCARD_HOSTS.get(host, host)
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether `host` is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises SettingsError, which names every invalid variable but not its value: it may be a secret.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = [f"{_variable(problem['loc'])}: {_sentence(problem)}" for problem in error.errors()]
        raise SettingsError("; ".join(problems)) from None


_SERVICE_LINK: Final = re.compile(
    r"FARM_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)", re.ASCII
)
"""Variables that Kubernetes and Docker links set for a Service whose name begins with `farm`."""


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """`FARM_` variables that are not settings: mistyped, or of another version."""
    known = {f"FARM_{name.upper()}" for name in Settings.model_fields}
    return sorted(
        name
        for name, value in environment.items()
        if name.upper().startswith("FARM_")
        and name.upper() not in known
        and not (_SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and "://" in value))
    )


def unknown_setting_message(name: str) -> str:
    """The error for an unknown setting, with the closest known one."""
    known = [f"FARM_{field.upper()}" for field in Settings.model_fields]
    similar = get_close_matches(name.upper(), known, n=1, cutoff=0.75)
    return f"{name}: unknown setting" + (f"; did you mean {similar[0]}?" if similar else "")


def refuse_unknown_settings(environment: Mapping[str, str]) -> None:
    """Raise SettingsError if there is an unknown setting."""
    if unknown := unknown_settings(environment):
        raise SettingsError("; ".join(map(unknown_setting_message, unknown)))


def _variable(location: tuple[int | str, ...]) -> str:
    return f"FARM_{str(location[0]).upper()}" if location else "FARM_*"


_WORDS = {
    "bool_parsing": "must be on or off",
    "float_parsing": "must be a number",
    "int_parsing": "must be a whole number",
}


def _sentence(problem: ErrorDetails) -> str:
    match problem["type"]:
        case kind if kind in _WORDS:
            return _WORDS[kind]
        case "too_short" if isinstance(problem["input"], str):
            # Pydantic counts the items of a secret.
            return f"must have at least {problem['ctx']['min_length']} characters"
        case _:
            message: str = problem["msg"].removeprefix("Value error, ")
            return re.sub("^(Input|String|Value) should ", "must ", message)
