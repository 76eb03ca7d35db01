"""Where the store's file lives: its folder, who may read it, and which disks are refused."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path

from ..errors import StoreError

__all__ = ["network_file_system", "prepare"]

_FILE_MODE = 0o600
_FOLDER_MODE = 0o700

# Nobody connects to a file while the descriptor that made it is open.
_CREATING = threading.Lock()

# File systems that several machines can mount. SQLite's log needs memory that all its users
# share, so two machines on one file would damage it without a word. 9p is not among them: it is
# what some sandboxes call their local disk.
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|afs|ncpfs|davfs|ceph|glusterfs|lustre|beegfs|gpfs|orangefs"
    r"|fuse\.(sshfs|s3fs|rclone|davfs2?|gcsfuse|smbnetfs|goofys|glusterfs|ceph|curlftpfs|juicefs)"
)


def prepare(path: Path) -> None:
    """Make the folder and an empty file if they are missing, closed to other users.

    SQLite gives its ``-wal`` and ``-shm`` files the permissions of the file itself. A folder or
    file that exists is left as it is. Raises OSError, and StoreError for a network disk.
    """
    if path.name == ":memory:":
        raise StoreError(
            "a store in memory could not be shared; give the path of a file, in a temporary folder"
            " if it is not to stay"
        )
    if kind := network_file_system(path):
        raise StoreError(
            f"{path} is on a network file system ({kind}). SQLite's write-ahead log needs memory"
            " that all its users share, which ends at one machine. Put the file on a local disk,"
            " or use Neo4j for several machines: neo4j://user:password@host:7687"
        )
    _make_folder(path.parent)
    _make_file(path)


def _make_file(path: Path) -> None:
    """Never opens a file that exists.

    POSIX drops *all* locks that this process has on a file when any descriptor of it is closed:
    those of SQLite's other connections too, whereupon another process deletes their log.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with _CREATING, contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE))


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    for missing in reversed([folder, *folder.parents]):
        if not missing.is_dir():
            missing.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")


def network_file_system(path: Path) -> str | None:
    """The type of the network file system that ``path`` is, or would be, on; None if local."""
    real = Path(os.path.realpath(path))
    on_path = [(mount, kind) for mount, kind in _mounts() if real.is_relative_to(mount)]
    if not on_path:
        return None
    # The longest prefix is where the path is; of equal ones the last was mounted over the rest.
    _, kind = max(enumerate(on_path), key=lambda item: (len(item[1][0].parts), item[0]))[1]
    return kind if _NETWORK.fullmatch(kind) else None


def _mounts() -> Iterable[tuple[Path, str]]:
    for line in _mount_table().splitlines():
        _device, mount, kind, *_ = line.split()
        yield Path(re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), mount)), kind


def _mount_table() -> str:
    """What Linux says is mounted where; elsewhere nothing is known and nothing is refused."""
    try:
        return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
