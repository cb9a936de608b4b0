"""Errors of the disk as one line each: what is wrong with which file, and what to do."""

import errno
import os

from mindiffusion.places import CACHE, DATA

_FULL = (
    "free some and run the same command again, it goes on from the last checkpoint. Prepared data "
    f"and caches go elsewhere by {DATA} and {CACHE}."
)
_MEND = "choose another path or mend it."
_DENIED = (
    f"choose another path or mend it. {DATA} and {CACHE} say where prepared data and caches go."
)
_ADVICE = {
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: _DENIED,
    errno.EFBIG: "the file system or a limit (ulimit -f) takes no file of that size; raise it.",
    errno.ENAMETOOLONG: "give a shorter name.",
    errno.EIO: "the disk or the network share fails; look after it, then run the same command.",
    errno.ESTALE: "the network share has gone; mount it again, then run the same command.",
    errno.EMFILE: "too many files are open at once; raise the limit, such as: ulimit -n 4096.",
    errno.ENFILE: "this machine has too many files open; close some programs.",
    errno.ENOMEM: "this machine's memory is full; close some programs.",
    errno.ELOOP: "links lead in a circle; mend them.",
    errno.ENOENT: _MEND,
    errno.ENOTDIR: _MEND,
    errno.EISDIR: _MEND,
    errno.EEXIST: _MEND,
    errno.EXDEV: _MEND,
    errno.ENXIO: _MEND,
    errno.ENODEV: _MEND,
    errno.ETXTBSY: _MEND,
    errno.ENOLCK: "this file system has no locks; choose another path.",
    errno.EOPNOTSUPP: "this file system can't do that; choose another path.",
}


def disk_trouble(error: OSError) -> str | None:
    """What a user can do about an error that names a file or is of a kind that files have.

    Args:
        error: as the system gave it.

    Returns:
        None for another error, such as one of a network connection.
    """
    name = error.filename
    if name is None and error.errno not in (*_ADVICE, errno.ENOSPC, errno.EDQUOT):
        return None
    shown = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the disk of {shown or 'the output'}; {_FULL}"
    reason = error.strerror or type(error).__name__
    advice = _ADVICE.get(error.errno or 0, _MEND)
    return f"cannot use {shown or 'a file'}: {reason}; {advice}"
