"""Checks a customer's storage: whether files can be put where they would go.

It is done in a process of its own, which the kernel ends in time. A storage can hang in more ways than a
library has time-outs for: it may send a byte every few seconds, for ever.
"""

import asyncio
import logging
import signal
import sys
from ipaddress import ip_network
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue

from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.farm.clock import now
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.customer import CustomerPlace, place_of
from recording_farm.farm.storage.targets import TARGET, Target, key_of, with_secrets

CHECK_SECONDS: Final = 18
"""How long a check takes at most, but for the start of its process."""

_TIMEOUT_SECONDS: Final = 5.0
"""Of one request of the check."""

logger = logging.getLogger(__name__)


class CheckResult(BaseModel):
    """Whether a storage can be used; if not, a stable code for programs and a sentence for people.

    `notes` tell what may not be done there and need not. `host_key` is the fingerprint that an SFTP server
    has shown.
    """

    model_config = ConfigDict(frozen=True)

    code: str | None = None
    message: str | None = None
    notes: list[str] = []
    host_key: str | None = None

    @property
    def ok(self) -> bool:
        """Whether files can go there."""
        return self.code is None


class _Order(BaseModel):
    """What the process is told; it comes through a pipe, which nobody else can read."""

    target: dict[str, JsonValue]
    rule: list[str] | None
    directory: str
    host_key: str | None


async def check_target(
    target: Target, rule: AddressRule | None, organization_id: str, host_key: str | None = None
) -> CheckResult:
    """Check a storage with short time-outs and one try, in 20 s at most.

    `rule` says where it may connect to; None is everywhere. `host_key` is the fingerprint to expect of an
    SFTP server, unless the target names one.
    """
    order = _Order(
        target=with_secrets(target),
        rule=None if rule is None or rule.allow_all else [str(network) for network in rule.allowed],
        directory=_directory(target, organization_id),
        host_key=host_key,
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # a library's own words may hold a secret
    )
    try:
        async with asyncio.timeout(CHECK_SECONDS + 1):
            answer, _ = await process.communicate(order.model_dump_json().encode())
    except TimeoutError:
        answer = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _result(process.returncode, answer)


def check_place(place: CustomerPlace, directory: str) -> CheckResult:
    """What comes of an attempt to write in `directory`."""
    try:
        notes = place.check_writing(directory)
    except StorageError as error:
        return CheckResult(code=error.reason, message=error.message)
    return CheckResult(notes=notes, host_key=place.host_key)


def _directory(target: Target, organization_id: str) -> str:
    values = {"meeting_id": "check", "recording_id": "check", "organization_id": organization_id}
    return key_of(target.path, "", values, now())


def _result(status: int | None, answer: bytes) -> CheckResult:
    if status == 0:
        return CheckResult.model_validate_json(answer)
    if status in {-signal.SIGALRM, -signal.SIGKILL}:
        return CheckResult(code="timed_out", message="the storage did not answer in time")
    logger.error("the process that checks a storage ended with the status %s", status)
    return CheckResult(code="failed", message="the storage could not be checked")


def _main() -> None:
    signal.alarm(CHECK_SECONDS)
    order = _Order.model_validate_json(sys.stdin.buffer.read())
    rule = None
    if order.rule is not None:
        rule = AddressRule(allowed=tuple(ip_network(network) for network in order.rule))
    try:
        place = place_of(
            TARGET.validate_python(order.target),
            rule,
            host_key=order.host_key,
            connect_timeout=_TIMEOUT_SECONDS,
            read_timeout=_TIMEOUT_SECONDS,
            tries=1,
        )
    except StorageError as error:
        result = CheckResult(code=error.reason, message=error.message)
    else:
        result = check_place(place, order.directory)
    print(result.model_dump_json())


if __name__ == "__main__":
    _main()
