"""Run a program under what a unit's SystemCallFilter= and MemoryDenyWriteExecute= forbid: `python confined.py ALLOWED,… PROGRAM ARGUMENT…`.

systemd is not needed for it: libseccomp and prctl do what systemd would. Exits with 77 where the kernel or the library offers neither.
"""

import ctypes
import os
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN = 38, 65, 1
ERRNO_EPERM, ALLOW = 0x00050000 | 1, 0x7FFF0000
NOT_HERE = 77


def forbid_writable_code() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN, 0, 0, 0):
        sys.exit(NOT_HERE)


def allow_only(names: list[str]) -> None:
    try:
        seccomp = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        sys.exit(NOT_HERE)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(seccomp.seccomp_init(ERRNO_EPERM))
    for name in names:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            seccomp.seccomp_rule_add(rules, ALLOW, number, 0)
    if seccomp.seccomp_load(rules):
        sys.exit(NOT_HERE)


if __name__ == "__main__":
    forbid_writable_code()
    allow_only(sys.argv[1].split(","))
    os.execv(sys.argv[2], sys.argv[2:])
