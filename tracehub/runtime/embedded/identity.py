"""Who Postgres runs as. It refuses to be root, and nothing beside our own folder may be changed for it.

* An ordinary user: as that user.
* Root: in a user namespace of its own, where it sees itself as user 1000 while the kernel still counts it as
  root, so that it reads and writes what root may, wherever the project lies.
* Root where namespaces are forbidden (many containers), or in a folder that only its owner may enter:
  as the owner of the folder, else as `nobody`. Binaries and database are put where that user can reach them.

No user is added, and no folder that was there before is chmodded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tracehub.runtime.embedded.errors import EmbeddedError
from tracehub.runtime.process import OURSELVES, Identity, spawn

NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
NOBODY = 65_534
PROBE_S = 10.0


def candidates(home: Path) -> Iterator[Identity]:
    """In order of preference, without knowing yet what works here."""
    if os.geteuid() != 0:
        yield OURSELVES
        return
    if unshare := shutil.which(NAMESPACE[0]):
        yield Identity(prefix=(unshare, *NAMESPACE[1:]))
    owner = home.parent.stat()
    if owner.st_uid != 0:
        yield Identity(uid=owner.st_uid, gid=owner.st_gid)
    yield Identity(uid=NOBODY, gid=NOBODY)


def can_run(identity: Identity, install: Path) -> bool:
    """Try it: can this identity run the binaries, with the libraries they need?"""
    return _succeeds(identity, '"$1" --version', install / "bin" / "initdb")


def can_write(identity: Identity, folder: Path) -> bool:
    """Try it: can this identity make and remove a file in the folder?"""
    return _succeeds(identity, 'touch "$1/.probe" && rm "$1/.probe"', folder)


def _succeeds(identity: Identity, script: str, argument: Path) -> bool:
    try:
        child = spawn(
            ["/bin/sh", "-c", script, "sh", str(argument)], env={"PATH": os.defpath}, identity=identity
        )
    except OSError:
        return False
    try:
        return child.wait(PROBE_S) == 0
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return False


def give(folder: Path, identity: Identity) -> None:
    """Make the folder and what is in it belong to the identity; only root needs to, and can."""
    if os.geteuid() != 0:
        return
    uid, gid = max(identity.uid, 0), max(identity.gid, 0)
    if folder.stat().st_uid == uid:
        return
    for root, _, files in os.walk(folder):
        os.chown(root, uid, gid)
        for name in files:
            os.chown(Path(root, name), uid, gid, follow_symlinks=False)


def copy_install(install: Path, to: Path) -> Path:
    """A copy of the binaries below `to` that everybody may read, made once; EmbeddedError when it fails.

    The libraries lie in a folder beside the package, and the binaries find them by that relative place.
    """
    package = install.parent
    if not to.exists():
        unfinished = to.with_name(f"{to.name}.{os.getpid()}")
        skip = shutil.ignore_patterns("include", "*.a", "__pycache__")
        try:
            shutil.copytree(package, unfinished / package.name, ignore=skip)
            libraries = package.with_name(f"{package.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, unfinished / libraries.name)
            unfinished.rename(to)
        except OSError as error:
            raise EmbeddedError(f"cannot copy Postgres to {to}: {error.strerror}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return to / package.name / install.name
