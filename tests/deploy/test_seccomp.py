"""The seccomp profile, loaded for real: Chromium's sandbox is on under it, and the kernel is out of reach."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from recording_farm.browser_bot.network import enter_namespace
from testkit.deploy import seccomp

PROFILE = Path(__file__).parents[2] / "deploy" / "seccomp.json"
NOBODY = 65534
# What root may ask of the kernel, if it is but to be told that there is no such thing.
REACHING = {
    "mount": "libc.mount(b'none', b'/nowhere', b'tmpfs', 0, None)",
    "pivot_root": "call('pivot_root', None, None)",
    "open_tree": "call('open_tree', -1, b'nowhere', 0)",
    "swap": "libc.swapoff(b'/nowhere')",
    "process accounting": "libc.acct(b'/nowhere')",
    "bpf": "call('bpf', -1, None, 0)",
    "perf_event_open": "call('perf_event_open', None, 0, -1, -1, 0)",
    "keyctl": "call('keyctl', -1)",
    "init_module": "call('init_module', None, 0, None)",
    "userfaultfd": "call('userfaultfd', -1)",
    "ptrace": "call('ptrace', -1, 2 ** 22 + 1, None, None)",
    "namespace of others": "libc.setns(-1, 0)",
    "sockets of the kernel's crypto": "libc.socket(38, 99, 0)",
    "sockets of the machine's host": "libc.socket(40, 99, 0)",
}
ASKING = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
number = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name
call = lambda name, *arguments: libc.syscall(number(name.encode()), *arguments)
print({}, ctypes.get_errno())
"""
DENIED = "-1 1"

AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
MAKE_NAMESPACE = ["unshare", "--user", "--map-root-user", "true"]


def is_possible() -> bool:
    """Whether an ordinary user of this machine has a Python and may make user namespaces."""
    if os.geteuid() != 0 or not Path("/usr/bin/python3").exists():
        return False
    return subprocess.run([*AS_NOBODY, *MAKE_NAMESPACE], timeout=10, check=False).returncode == 0


pytestmark = pytest.mark.skipif(
    not is_possible(), reason="wants root, Debian's Python, and user namespaces for ordinary users"
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of an ordinary user, with the profile and what loads it."""
    # Whoever runs the tests keeps other users out of its own temporary directory.
    with TemporaryDirectory(prefix="farm-seccomp-", dir="/var/tmp") as name:
        directory = Path(name)
        for file in (PROFILE, Path(seccomp.__file__)):
            shutil.copy(file, directory)
        for path in (directory, *directory.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        yield directory


def loader(place: Path) -> list[str]:
    return ["/usr/bin/python3", "-I", str(place / "seccomp.py"), str(place / PROFILE.name)]


def run(place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=place,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(place), "TMPDIR": str(place)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def dumped(place: Path) -> subprocess.CompletedProcess[str]:
    """What Chromium makes of a page; it does not start when it cannot make its sandbox."""
    switches = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    profile = f"--user-data-dir={place / 'profile'}"
    page = "data:text/html,<script>document.write(6*7)</script>"
    return run(place, *AS_NOBODY, *loader(place), "chromium", *switches, profile, "--dump-dom", page)


def test_chromium_should_make_its_sandbox_under_the_profile(place: Path) -> None:
    done = dumped(place)
    assert "42" in done.stdout, done.stderr[-2000:]


def test_chromium_should_not_start_under_a_profile_that_keeps_it_from_its_sandbox(place: Path) -> None:
    profile = json.loads(PROFILE.read_text())
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"] != ["chroot"]]
    (place / PROFILE.name).write_text(json.dumps(profile))
    done = dumped(place)
    assert done.returncode != 0
    assert "42" not in done.stdout


@pytest.mark.parametrize("call", REACHING.values(), ids=REACHING)
def test_what_reaches_the_kernel_should_be_denied(place: Path, call: str) -> None:
    asking = ["/usr/bin/python3", "-Ic", ASKING.format(call)]
    asked = run(place, *asking).stdout.strip()
    assert asked.startswith("-1 ")
    assert asked != DENIED
    done = run(place, *loader(place), *asking)
    assert done.stdout.strip() == DENIED, done.stderr


def test_user_namespaces_should_be_allowed(place: Path) -> None:
    done = run(place, *AS_NOBODY, *loader(place), *MAKE_NAMESPACE)
    assert done.returncode == 0, done.stderr


def test_stage_should_have_its_network_namespace(place: Path) -> None:
    entrance = str(shutil.copy(enter_namespace.__file__, place))
    done = run(place, *AS_NOBODY, *loader(place), "/usr/bin/python3", "-I", "-S", entrance, "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["--mount", "--uts", "--ipc", "--cgroup", "--time"])
def test_namespaces_that_chromium_does_not_make_should_be_denied(place: Path, kind: str) -> None:
    making = ["unshare", "--user", "--map-root-user", kind, "true"]
    assert run(place, *AS_NOBODY, *making).returncode == 0
    done = run(place, *AS_NOBODY, *loader(place), *making)
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr
