"""Runs a program under a container engine's seccomp profile, without an engine.

    python3 seccomp.py PROFILE COMMAND…

It does with the profile what runc does, by libseccomp (seccomp_rule_add(3)): system calls that the kernel or
the library does not know are left out. It needs nothing but the standard library, so that any user's Python
can run it.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

# libseccomp's seccomp.h: what a rule does, how it looks at an argument, what a name resolves to that is none.
ALLOW = 0x7FFF0000
ERRNO = 0x00050000
COMPARISONS = {"SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
UNKNOWN = -1


class Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`: of which argument, how, and with what; of a masked one, first the mask."""

    _fields_ = (
        ("index", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("value_two", ctypes.c_uint64),
    )


def default_action(profile: dict[str, Any]) -> int:
    """What is done with calls that a profile does not name."""
    if profile["defaultAction"] == "SCMP_ACT_ALLOW":
        return ALLOW
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    return ERRNO | int(profile["defaultErrnoRet"])


def load(profile: dict[str, Any]) -> None:
    """Put this process and all that comes of it under a profile."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default_action(profile))))
    if not context:
        sys.exit("libseccomp made no filter")
    for rule in profile["syscalls"]:
        assert not rule.keys() - {"names", "action", "errnoRet", "args", "comment"}
        action = {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": ERRNO | rule.get("errnoRet", 0)}[rule["action"]]
        comparisons = [
            Comparison(each["index"], COMPARISONS[each["op"]], each["value"], each.get("valueTwo", 0))
            for each in rule.get("args", ())
        ]
        array = (Comparison * len(comparisons))(*comparisons)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number == UNKNOWN:
                continue
            failed = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(action), number, len(comparisons), array
            )
            if failed:
                sys.exit(f"the rule of {name} cannot be made: {os.strerror(-failed)}")
    if failed := library.seccomp_load(context):
        sys.exit(f"the filter cannot be loaded: {os.strerror(-failed)}")


if __name__ == "__main__":
    load(json.loads(Path(sys.argv[1]).read_text()))
    os.execvp(sys.argv[2], sys.argv[2:])
