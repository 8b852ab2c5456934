"""Runs the lines of Dockerfile.chromium in a plain Debian root, without any container engine.

    python -m testkit.deploy.build_root DIRECTORY [BASE]

BASE is a Debian root that is copied for each stage; without it debootstrap makes one. It needs root, some
four gigabytes and a few minutes, so it is no test of the suite. At the end it tells the size of what an
image would hold, and records a page in it as the image's user with Chromium's sandbox on, under the seccomp
profile of deploy/.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from testkit.deploy import seccomp
from testkit.deploy.dockerfile import Instruction, instructions

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
SECONDS = 1800.0
CONTAINER = (
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-ec"),
    """
    PATH=$PATH:/usr/sbin:/sbin
    root=$0
    mount --bind "$root" "$root"
    cd "$root"
    mount -t proc proc proc
    mount -t tmpfs -o mode=1777 tmpfs tmp
    mkdir -p dev/shm .outside
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    pivot_root . .outside
    umount -l /.outside
    exec "$@"
    """,
)
"""Not chroot: in one nobody may make a user namespace (user_namespaces(7)), and Chromium makes one."""
PAGE = "data:text/html,<title>image</title><h1>recorded in the image"


def main(directory: Path, base: Path | None) -> None:
    """Build both stages below `directory`, and try the second."""
    directory.mkdir(parents=True, exist_ok=True)
    if base is None:
        base = directory / "base"
        if not base.exists():
            run(["debootstrap", "--variant=minbase", SUITE, str(base)])
            make_slim(base)
    stages: dict[str, Path] = {}
    stage = base
    environment: dict[str, str] = {}
    place = Path("/")
    for instruction in instructions(ROOT / "Dockerfile.chromium"):
        match instruction.name:
            case "FROM":
                name = [*instruction.arguments.split(" AS "), "final"][1]
                stage = stages[name] = directory / name
                environment, place = {}, Path("/")
                print(f"== {name}", flush=True)
                shutil.rmtree(stage, ignore_errors=True)
                run(["cp", "-a", "--reflink=auto", f"{base}/.", str(stage)])
            case "WORKDIR":
                place = Path(instruction.arguments)
                inside(stage, place).mkdir(parents=True, exist_ok=True)
            case "COPY":
                copy(instruction, stage, place, stages)
            case "ENV":
                environment |= dict(re.findall(r"(\w+)=(\S+)", instruction.arguments))
            case "RUN":
                print(f"RUN {instruction.arguments[:100]}", flush=True)
                in_root(stage, place, environment, ["sh", "-c", instruction.arguments])
            case _:
                pass  # what it says is of a container that runs
    final = stages["final"]
    size = int(subprocess.check_output(["du", "-sxb", str(final)], text=True).split()[0])
    print(f"the final root has {size / 1e9:.2f} GB ({size} bytes)", flush=True)
    record(final, environment)


def make_slim(base: Path) -> None:
    """Make a root like that of Debian's slim images: no documentation, and updates.

    Its packages come from where this machine has its own.
    """
    left_out = ["doc", "info", "locale", "man", "lintian/overrides"]
    lines = [f"path-exclude /usr/share/{name}/*" for name in left_out]
    rules = "\n".join([*lines, "path-include /usr/share/doc/*/copyright", ""])
    (base / "etc" / "dpkg" / "dpkg.cfg.d" / "slim").write_text(rules)
    for name in left_out:
        shutil.rmtree(base / "usr" / "share" / name, ignore_errors=True)
    sources = base / "etc" / "apt" / "sources.list.d"
    for file in Path("/etc/apt/sources.list.d").glob("debian*.sources"):
        shutil.copy2(file, sources)
        (base / "etc" / "apt" / "sources.list").unlink(missing_ok=True)


def record(stage: Path, environment: dict[str, str]) -> None:
    """Record a page as the image's user does, in a container of the kernel's own means, under its profile."""
    user = ["setpriv", "--reuid=10001", "--regid=10001", "--clear-groups", "--no-new-privs"]
    for file in (ROOT / "deploy" / "seccomp.json", Path(seccomp.__file__)):
        shutil.copy2(file, stage / "data")
    user += ["python3", "-I", "/data/seccomp.py", "/data/seccomp.json"]
    command = ["farm", "record", PAGE, "--out", "/data/page.mp4", "--seconds", "3", "--json"]
    said = in_root(stage, Path("/data"), environment, [*user, *command], enter=CONTAINER)
    print(said.strip(), flush=True)
    assert "sandbox is off" not in said
    film = stage / "data" / "page.mp4"
    assert film.stat().st_size > 10_000
    print(f"recorded {film.stat().st_size} bytes as the user 10001", flush=True)


def inside(stage: Path, path: Path) -> Path:
    """A path of the root, as it is called outside."""
    return stage / path.relative_to("/")


def copy(instruction: Instruction, stage: Path, place: Path, stages: dict[str, Path]) -> None:
    """What COPY does."""
    words = instruction.arguments.split()
    origin = ROOT
    if words[0].startswith("--from="):
        origin = stages[words.pop(0).removeprefix("--from=")]
    *sources, target = words
    for source in sources:
        found = origin / source.removeprefix("/")
        to = inside(stage, place / target)
        if target.endswith("/"):
            to = to / found.name
        to.parent.mkdir(parents=True, exist_ok=True)
        if found.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(found, to, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy2(found, to)


def in_root(
    stage: Path,
    place: Path,
    environment: dict[str, str],
    command: list[str],
    enter: tuple[str, ...] = ("chroot",),
) -> str:
    """Run a command with the stage as its root, by a program that makes it that."""
    for name in ("etc/resolv.conf", "etc/hosts"):
        shutil.copy2(f"/{name}", stage / name)
    # Whom this machine trusts: its way to the packages may go through a proxy of its own.
    shutil.copy2(CERTIFICATES, stage / "tmp" / "certificates.pem")
    outside = {
        name: value
        for name, value in os.environ.items()
        if re.match(r"(?i)(pip_|https?_proxy|no_proxy)", name)
    }
    default = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    shell = ["sh", "-c", 'cd "$0" && exec "$@"', str(place)]
    trusted = {"PIP_CERT": "/tmp/certificates.pem"}
    # By its path: the environment is that of the image.
    program, *words = enter
    return run(
        [str(shutil.which(program)), *words, str(stage), *shell, *command],
        default | outside | trusted | environment,
    )


def run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Run a command; what it says is shown if it fails."""
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        said = f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
        sys.exit(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{said}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute() if len(sys.argv) > 2 else None)
