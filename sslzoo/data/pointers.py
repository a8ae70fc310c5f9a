"""Git LFS pointers: files whose content was not fetched."""

_BEGINNING = b"version https://git-lfs.github.com/spec/"


def unfetched(head: bytes) -> str | None:
    """The error message for a file with this head if it is a pointer, else None."""
    if not head.startswith(_BEGINNING):
        return None
    return "is a pointer of Git LFS and not the file itself: `git lfs pull` fetches that"
