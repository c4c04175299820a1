"""Errors a person can mend, with the mend."""

import errno


class SetupError(Exception):
    """`what` went wrong and `mend`, the way out; both are printed."""

    def __init__(self, what, mend):
        super().__init__(what)
        self.what = what
        self.mend = mend


def from_os_error(error):
    """The plain words for the errors of a disk."""
    where = error.filename or "the cache or .deps"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SetupError(
            f"the disk is full ({where})",
            "free about 1.5 GB, or point XDG_CACHE_HOME at a larger disk, and run it again",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SetupError(
            f"no right to write {where}",
            "give yourself that right, or point XDG_CACHE_HOME at a folder of yours, and run it again",
        )
    return SetupError(
        f"{error.strerror or error} ({where})", "mend that and run it again: nothing is half done"
    )
