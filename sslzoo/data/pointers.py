"""Files that stand for others: Git LFS's pointers, where the files themselves were not fetched."""

_BEGINNING = b"version https://git-lfs.github.com/spec/"


def unfetched(head: bytes) -> str | None:
    """What to say of a file that begins so, if it is a pointer."""
    if not head.startswith(_BEGINNING):
        return None
    return "is a pointer of Git LFS and not the file itself: `git lfs pull` fetches that"
