"""Debian packages of any architecture, downloaded and unpacked by the host's own apt into folders of ours.

Nothing of the host's package system is changed and no root is needed: apt gets a state, a cache and, for another release, sources
of its own. Which mirrors there are comes from the host's own sources. What is unpacked is not configured: no script of a package runs.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

STATUS = Path("/var/lib/dpkg/status")
#: The keys of all releases that Debian supports.
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
#: What has to be said of an index to write it down as a source of another release.
INDEX = "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)\t$(LABEL)"
DEBIAN = ("Debian", "Debian-Security")
APT_TIMEOUT_S = 240


class NotHere(RuntimeError):  # noqa: N818 - it says what is missing, not that something broke
    """What this machine lacks for the emulation: no fault of edgedistill; the text says what to do."""


class Index(NamedTuple):
    """One index of packages that the host's apt knows."""

    uri: str
    release: str
    component: str
    label: str


class AptRoot(NamedTuple):
    """An apt of our own: `folder` holds its configuration, lists and downloads."""

    folder: Path

    @property
    def archives(self) -> Path:
        """Where the downloaded packages lie."""
        return self.folder / "cache" / "archives"


def check_host(os_release: Path = Path("/etc/os-release")) -> str:
    """Return the release name of this Debian; raises NotHere on any other system, since Debian's mirrors have all architectures."""
    fields = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)', os_release.read_text() if os_release.is_file() else "", re.MULTILINE))
    if fields.get("ID") != "debian" or platform.machine() != "x86_64":
        raise NotHere(
            f"this is {fields.get('PRETTY_NAME', platform.system())} on {platform.machine()}; the ARM userland is built on "
            "Debian on x86-64 only: run it there, or in a container of it"
        )
    missing = [name for name in ("apt-get", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        raise NotHere(f"{' and '.join(missing)} not found; install the packages apt and dpkg")
    return fields["VERSION_CODENAME"]


def host_root(folder: Path) -> AptRoot:
    """Make an apt that knows what the host has installed and reads the host's own sources; its lists are fetched."""
    root = _configure(folder, architecture="amd64", status=STATUS.read_bytes(), own_sources=False)
    _update(root)
    return root


def foreign_root(folder: Path, sources: Sequence[str], *, architecture: str) -> AptRoot:
    """Make an apt of another architecture and release, with nothing installed; its lists are fetched."""
    root = _configure(folder, architecture=architecture, status=b"", own_sources=True)
    (root.folder / "etc" / "sources.list").write_text("".join(f"{source}\n" for source in sources))
    _update(root)
    return root


def debian_indexes(root: AptRoot) -> list[Index]:
    """Return the indexes of Debian's own packages; raises NotHere if there is none, as without a network."""
    lines = _apt(root, "indextargets", "--format", INDEX, "Created-By: Packages").splitlines()
    found = [index for index in (Index(*line.split("\t")) for line in lines) if index.label in DEBIAN]
    if not found:
        raise NotHere("apt reached no Debian mirror; connect to the network, and see that `apt-get update` works here")
    return found


def sources_of(indexes: Sequence[Index], *, host: str, release: str) -> list[str]:
    """Return the lines of a sources.list for another release: the same mirrors, with its name in the place of the host's."""
    signed = f"[signed-by={KEYRING}] " if KEYRING.is_file() else ""
    lines = []
    for index in indexes:
        if index.component == "main" and re.match(rf"{host}\b", index.release):
            lines.append(f"deb {signed}{index.uri} {index.release.replace(host, release, 1)} main")
    return list(dict.fromkeys(lines))


def unpack(root: AptRoot, packages: Sequence[str], *, into: Path) -> int:
    """Download packages with all that they depend on, unpack them into a folder, and return how many there were."""
    _apt(root, "install", "--yes", "--download-only", *packages)
    archives = sorted(root.archives.glob("*.deb"))
    if not archives:
        raise NotHere(f"apt downloaded nothing for {' '.join(packages)}; see that the network is there, and delete {root.folder}")
    into.mkdir(parents=True, exist_ok=True)
    for archive in archives:
        subprocess.run(["dpkg-deb", "-x", archive, into], check=True)
    return len(archives)


def _configure(folder: Path, *, architecture: str, status: bytes, own_sources: bool) -> AptRoot:
    for part in ("lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "status").write_bytes(status)
    lines = [
        f'APT::Architecture "{architecture}"; APT::Architectures {{ "{architecture}"; }};',
        f'Dir::State "{folder}"; Dir::State::status "{folder}/status"; Dir::Cache "{folder}/cache";',
        'APT::Install-Recommends "false"; Acquire::Languages "none"; Acquire::Retries "3"; Acquire::http::Timeout "20";',
        # apt's own unprivileged user could not read folders below ours
        'APT::Sandbox::User ""; APT::Update::Post-Invoke-Success {}; Binary::apt::APT::Keep-Downloaded-Packages "true";',
    ]
    if own_sources:
        lines.append(f'Dir::Etc "{folder}/etc"; Dir::Etc::trustedparts "/etc/apt/trusted.gpg.d"; Dir::Etc::trusted "/etc/apt/trusted.gpg";')
    (folder / "apt.conf").write_text("\n".join(lines) + "\n")
    return AptRoot(folder)


def _update(root: AptRoot) -> None:
    """Fetch the lists; a mirror in the midst of an update gives indexes that do not fit together, and is asked again."""
    try:
        _apt(root, "update")
    except NotHere:
        _apt(root, "update")


def _apt(root: AptRoot, *arguments: str) -> str:
    environment = os.environ | {"APT_CONFIG": str(root.folder / "apt.conf"), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            ["apt-get", "-qq", *arguments], env=environment, capture_output=True, text=True, timeout=APT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotHere(f"apt-get {arguments[0]} took more than {APT_TIMEOUT_S} s; see that the network is there") from error
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise NotHere(f"apt-get {arguments[0]} failed ({last[0]}); see that the network is there and that `apt-get update` works here")
    return done.stdout
