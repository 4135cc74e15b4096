"""What operating systems, file servers and file managers leave in folders: nobody's data."""

from __future__ import annotations

import re

_NAMES = frozenset(
    {
        # Of file systems and servers.
        "lost+found",
        ".snapshot",
        ".snapshots",
        ".zfs",
        ".glusterfs",
        "aquota.user",
        "aquota.group",
        "@eaDir",
        "#recycle",
        "#snapshot",
        # Of macOS.
        ".DS_Store",
        ".AppleDouble",
        ".Spotlight-V100",
        ".Trashes",
        ".fseventsd",
        ".TemporaryItems",
        ".DocumentRevisions-V100",
        ".VolumeIcon.icns",
        ".apdisk",
        "__MACOSX",
        # Of Windows and Linux desktops.
        "Thumbs.db",
        "desktop.ini",
        "System Volume Information",
        "$RECYCLE.BIN",
        ".directory",
    }
)
# Files that are open and removed on NFS and FUSE, wastebaskets by user, AppleDouble files. What a
# killed writer of ours left (`.part`) is no such thing.
_PATTERN = re.compile(r"\.nfs[0-9a-fA-F]+|\.fuse_hidden[0-9a-fA-F]+|\.Trash-\d+|\._(?!.*\.part$).+")


def is_system_entry(name: str) -> bool:
    """Whether a file or folder of this name, in whatever folder, is to be taken for absent.

    Such folders often can't even be read.

    Args:
        name: Without the folders above it.
    """
    return name in _NAMES or _PATTERN.fullmatch(name) is not None


def has_system_entry(key: str) -> bool:
    """Whether a part of a path with `/` is one: it, or a folder that it lies in."""
    return any(map(is_system_entry, key.split("/")))
