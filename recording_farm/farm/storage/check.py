"""Checks whether files can be written to a customer's storage.

The check runs in its own process, which an alarm kills in time: a storage can hang in ways that no time-out
of a library covers, for example by sending a byte every few seconds.
"""

import asyncio
import logging
import resource
import signal
import sys
from ipaddress import ip_network
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue

from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.browser_bot.stage.programs import child_environment
from recording_farm.farm.clock import now
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.customer import CustomerStorage, open_backend
from recording_farm.farm.storage.targets import TARGET, Target, key_of, with_secrets

CHECK_SECONDS: Final = 18
"""Time limit of a check, without the start of its process."""

_MAX_MEMORY: Final = 2 << 30
"""Address space of the process, in case a library finds a way around `farm.storage.backends.answers`."""

_TIMEOUT_SECONDS: Final = 5.0
"""Time-out of one request of the check."""

logger = logging.getLogger(__name__)


class CheckResult(BaseModel):
    """The result of a check; on failure, a stable code for programs and a sentence for people.

    `notes` name missing permissions that are not required. `host_key` is the fingerprint of an SFTP server.
    """

    model_config = ConfigDict(frozen=True)

    code: str | None = None
    message: str | None = None
    notes: list[str] = []
    host_key: str | None = None

    @property
    def ok(self) -> bool:
        """Whether files can be written."""
        return self.code is None


class _Task(BaseModel):
    """Input of the process; sent through a pipe, because it contains secrets."""

    target: dict[str, JsonValue]
    rule: list[str] | None
    directory: str
    host_key: str | None


async def check_target(
    target: Target, rule: AddressRule | None, organization_id: str, host_key: str | None = None
) -> CheckResult:
    """Check a storage within 20 s, with short time-outs and without retries.

    `rule` limits its addresses; None allows all. `host_key` is the expected fingerprint of an SFTP server,
    unless the target has one.
    """
    task = _Task(
        target=with_secrets(target),
        rule=None if rule is None or rule.allow_all else [str(network) for network in rule.allowed],
        directory=_directory(target, organization_id),
        host_key=host_key,
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # messages of libraries may contain secrets
        env=child_environment(),
    )
    try:
        async with asyncio.timeout(CHECK_SECONDS + 1):
            answer, _ = await process.communicate(task.model_dump_json().encode())
    except TimeoutError:
        answer = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _result(process.returncode, answer)


def check_backend(backend: CustomerStorage, directory: str) -> CheckResult:
    """Try to write to `directory`."""
    try:
        notes = backend.check_writing(directory)
    except StorageError as error:
        return CheckResult(code=error.reason, message=error.message)
    return CheckResult(notes=notes, host_key=backend.host_key)


def _directory(target: Target, organization_id: str) -> str:
    values = {"meeting_id": "check", "recording_id": "check", "organization_id": organization_id}
    return key_of(target.path, "", values, now())


def _result(status: int | None, answer: bytes) -> CheckResult:
    if status == 0:
        return CheckResult.model_validate_json(answer)
    if status in {-signal.SIGALRM, -signal.SIGKILL}:
        return CheckResult(code="timed_out", message="the storage did not answer in time")
    logger.error("the process of a storage check exited with status %s", status)
    return CheckResult(code="failed", message="the storage could not be checked")


def _main() -> None:
    signal.alarm(CHECK_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    task = _Task.model_validate_json(sys.stdin.buffer.read())
    rule = None
    if task.rule is not None:
        rule = AddressRule(allowed=tuple(ip_network(network) for network in task.rule))
    try:
        backend = open_backend(
            TARGET.validate_python(task.target),
            rule,
            host_key=task.host_key,
            connect_timeout=_TIMEOUT_SECONDS,
            read_timeout=_TIMEOUT_SECONDS,
            tries=1,
        )
    except StorageError as error:
        result = CheckResult(code=error.reason, message=error.message)
    else:
        result = check_backend(backend, task.directory)
    print(result.model_dump_json())


if __name__ == "__main__":
    _main()
