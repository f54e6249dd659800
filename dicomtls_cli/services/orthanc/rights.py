"""Whether another user of this machine may read a file, by the modes of it and of the folders above."""

from __future__ import annotations

import os
import stat
from pathlib import Path

SERVICE_USER = "orthanc"
"""The user Orthanc runs as where it was installed as a service of Debian or Ubuntu."""


def is_hidden_from(user: str, path: Path) -> bool:
    """Tell whether `user` cannot read `path`; False where there is no such user or file. ACLs are not looked at."""
    if os.name != "posix":
        return False
    import pwd

    try:
        entry = pwd.getpwnam(user)
        groups = set(os.getgrouplist(user, entry.pw_gid))
        real = path.resolve(strict=True)
        statuses = [(real.stat(), stat.S_IROTH), *((folder.stat(), stat.S_IXOTH) for folder in real.parents)]
    except (KeyError, OSError, ValueError):
        return False
    return not all(_allows(status, entry.pw_uid, groups, bit) for status, bit in statuses)


def _allows(status: os.stat_result, uid: int, groups: set[int], bit: int) -> bool:
    if uid in (0, status.st_uid):
        return uid == 0 or bool(status.st_mode & bit << 6)
    return bool(status.st_mode & (bit << 3 if status.st_gid in groups else bit))
