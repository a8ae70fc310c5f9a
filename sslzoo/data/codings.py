"""Detects audio that libsndfile cannot read from the file's head; libsndfile's own errors suggest damage."""

from pathlib import Path

from sslzoo.data.pointers import unfetched

CONVERT = "convert it, as `ffmpeg -i a.m4a a.flac` does"
_HEAD = 4096  # bytes
_BEGINNINGS = {
    b"\x1a\x45\xdf\xa3": "Matroska or WebM",
    b"\xff\xf1": "AAC",
    b"\xff\xf9": "AAC",
    b"\x30\x26\xb2\x75": "ASF (WMA)",
    b"#!AMR": "AMR",
    b"MAC ": "Monkey's Audio",
    b"wvpk": "WavPack",
}
# supported by libsndfile 1.2: wFormatTag of a WAV; compressionType of an AIFF-C; mFormatID of a CAF
_WAV = {0x0001, 0x0002, 0x0003, 0x0006, 0x0007, 0x0011, 0x0014, 0x0031, 0x0038, 0x0040, 0x0045, 0x0055, 0xFFFE}
_AIFC = {
    b"NONE", b"sowt", b"twos", b"raw ", b"in24", b"42ni", b"in32", b"23ni", b"fl32", b"FL32", b"fl64", b"FL64",
    b"ulaw", b"ULAW", b"alaw", b"ALAW", b"DWVW", b"GSM ", b"ima4",
}  # fmt: skip
_CAF = {b"lpcm", b"ulaw", b"alaw", b"alac"}


def unreadable(path: Path) -> str | None:
    """The file's format and how to convert it, if libsndfile cannot read it; else None."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if said := unfetched(head):
        return said
    coding = _coding(head)
    return None if coding is None else f"is {coding}, which libsndfile cannot read: {CONVERT}"


def _coding(head: bytes) -> str | None:
    for beginning, name in _BEGINNINGS.items():
        if head.startswith(beginning):
            return name
    if head[4:8] == b"ftyp":
        return "MP4 (AAC or ALAC)"
    if head.startswith(b"NIST_1A") and b"embedded-" in head:
        return "NIST SPHERE, compressed"
    if head.startswith((b"RIFF", b"RF64", b"RIFX")) and (tag := _after(head, b"fmt ", 4, 2)):
        number = int.from_bytes(tag, "big" if head.startswith(b"RIFX") else "little")
        return None if number in _WAV else f"WAV with the coding 0x{number:04x}"
    if head[8:12] == b"AIFC" and (kind := _after(head, b"COMM", 22, 4)):
        return None if kind in _AIFC else f"AIFF-C with the coding '{kind.decode('latin-1')}'"
    if head.startswith(b"caff") and (kind := _after(head, b"desc", 16, 4)):
        return None if kind in _CAF else f"CAF with the coding '{kind.decode('latin-1')}'"
    return None


def _after(head: bytes, chunk: bytes, offset: int, size: int) -> bytes:
    """`size` bytes at `offset` after a chunk's name; b"" if absent."""
    at = head.find(chunk)
    found = head[at + 4 + offset : at + 4 + offset + size]
    return found if at >= 0 and len(found) == size else b""
