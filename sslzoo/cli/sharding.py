"""`sslzoo shard`: the items of any data set in a few large files."""

from pathlib import Path

from sslzoo.cli import following
from sslzoo.cli.compose import composed
from sslzoo.errors import ConfigError

READ_BY = {"speech": "audio_shards", "image": "image_shards", "text": "text_shards"}
SPLITS = ("train", "valid", "test")


def shard(argv: list[str]) -> None:
    """write a set's items into shards, tar files or Parquet: sslzoo shard data=librispeech out=shards"""

    def work(config: dict, choices: dict) -> None:
        from sslzoo import build
        from sslzoo.data.shard_writing import write_shards
        from sslzoo.lock import sole_writer
        from sslzoo.progress import bars

        plan = checked(config)
        build.check(config["data"], "data")
        data, out = build.make(config["data"]), Path(str(config["out"]))
        with sole_writer(out), bars() as progress:
            manifest, before = write_shards(data, out, plan, progress)
        print(summary(manifest))
        settings = [f"data.{key}={value}".replace(" ", "") for key, value in manifest["settings"].items()]
        words = ["pretrain", f"data={READ_BY[manifest['modality']]}", f"data.path={out}", *settings]
        print(f"{out} is done already" if before else f"wrote {out}")
        print(f"next:  {following.command(*words, argv=argv)}")

    composed("shard", argv, work)


def checked(config: dict) -> dict:
    """The plan of `data.shard_writing.write_shards`. Raises ConfigError for settings that are none."""
    out, splits, size = str(config["out"]), config["splits"], config["shard_mb"]
    if "://" in out:
        raise ConfigError(
            f"out={out} must be a folder of this machine: write the shards there, then copy them to where they go"
        )
    if config["format"] not in ("tar", "parquet"):
        raise ConfigError(f"format must be tar or parquet, got {config['format']}")
    if config["format"] == "parquet":
        from sslzoo.data.shard_parquet import arrow

        arrow()  # before any item is read
    if isinstance(size, bool) or not isinstance(size, int | float) or size <= 0:
        raise ConfigError(f"shard_mb is the size of a shard in MB, above 0; got {size!r}")
    if not isinstance(splits, list) or not splits or any(name not in SPLITS for name in splits):
        raise ConfigError(f"splits are some of {', '.join(SPLITS)}; got {splits}")
    return {
        "made_from": config["data"], "format": config["format"], "shard_mb": size, "splits": list(dict.fromkeys(splits)),
    }  # fmt: skip


def summary(manifest: dict) -> str:
    """The shards in a few lines, one per split."""
    lines = []
    for name, found in manifest["splits"].items():
        size = sum(shard["bytes"] for shard in found["shards"]) / 1e6
        left = f", {found['skipped']:,} left out that cannot be read" if found["skipped"] else ""
        lines.append(f"  {name:5}  {found['items']:,} items in {len(found['shards']):,} shards, {size:,.1f} MB{left}")
    return "\n".join(lines)
