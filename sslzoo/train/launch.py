"""Training a run from its built parts: Lightning's trainer, our callbacks, and resuming from a checkpoint."""

import logging
import sys
import warnings
from dataclasses import replace
from datetime import timedelta
from functools import partial

import lightning as L
import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy, StrategyRegistry
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.nn.modules.batchnorm import _BatchNorm

from sslzoo import rng
from sslzoo.data.loader import ordered, read_rows, train_loader
from sslzoo.data.sampler import StepSampler, parts_that_fit
from sslzoo.errors import ConfigError, Stopped, UserError
from sslzoo.pretrain import Pretrain
from sslzoo.progress import quiet
from sslzoo.run import Run
from sslzoo.train import additions, blocks, cluster, sharding
from sslzoo.train.cadence import Cadence
from sslzoo.train.checkpoint import Checkpoints, SignedIO, sound_checkpoint
from sslzoo.train.effective_batch import EffectiveBatch
from sslzoo.train.finish import Finish, GracefulStop
from sslzoo.train.guards import CollapseGuard, OverfitGuard
from sslzoo.train.health import FeatureHealth
from sslzoo.train.heartbeat import Heartbeat
from sslzoo.train.items import check_items
from sslzoo.train.metrics import MetricsFile
from sslzoo.train.outline import lines, outline
from sslzoo.train.precision import HalfPrecision, allow_tf32
from sslzoo.train.profile import Profile
from sslzoo.train.progress import ProgressReport
from sslzoo.train.recover import recover
from sslzoo.train.refresh import RefreshFeatures
from sslzoo.train.settings import Settings
from sslzoo.train.skipped import SkippedItems
from sslzoo.train.throughput import Throughput, WaitingForData
from sslzoo.train.validate import AUTO_TIMES, some_items


class Loaders(L.LightningDataModule):
    """The training loader of this rank, starting at the trainer's step."""

    def __init__(self, data, split, seed: int, stop: int, smallest: int, workers: int, parts: int, to_bucket: bool):
        super().__init__()
        self.data, self.split, self.seed = data, split, seed
        self.stop, self.smallest, self.workers, self.parts, self.to_bucket = stop, smallest, workers, parts, to_bucket

    def train_dataloader(self):
        t = self.trainer
        return train_loader(
            self.split, self.data.batch, self.seed, t.global_step, self.stop,
            t.global_rank, t.world_size, self.smallest, self.workers, self.parts, self.to_bucket,
        )  # fmt: skip


def epoch_steps(split, batching, smallest: int, parts: int = 1) -> int:
    """Steps per epoch: to draw every item of a split once."""
    return StepSampler(batching, split.cut_lengths, 0, 0, 1, smallest=smallest, parts=parts).steps_per_epoch


def check_lengths(split, encoder, objective, data) -> None:
    """Raise UserError, naming the item, if the shortest item of the training split, as it is cut, is too short for the
    objective."""
    least = objective.min_tokens
    if least <= 1 or data.modality == "image":
        return
    shortest = int(split.cut_lengths.argmin())
    length = int(split.cut_lengths[shortest])
    sample = split.read(shortest)[None, :length]
    with torch.no_grad():
        tokens = int(encoder.eval().embed(sample, torch.tensor([length]))[1])
    encoder.train()
    if tokens >= least:
        return
    cut = length < split.lengths[shortest]
    if data.modality == "speech":
        least_s = (least + 2) * encoder.stride / data.sample_rate
        size = f"{length / data.sample_rate:.3f} s"
        mend = ""  # built-in sets have no such settings
        if cut:
            mend = f"data.max_seconds={least_s:.2f}, or "
        elif hasattr(data, "min_seconds"):
            mend = f"data.min_seconds={least_s:.2f} data.on_error=skip, or "
    else:
        raise UserError(
            f"{split.names[shortest]} has {length} tokens, fewer than the {least} that "
            f"{type(objective).__name__} needs — leave such texts out"
        )
    raise UserError(
        f"{split.names[shortest]} is {'cut to ' if cut else ''}{size}, {tokens} tokens: shorter than the {least} that "
        f"{type(objective).__name__} needs — set {mend}a smaller objective.{objective.length_setting}"
    )


def in_parts(settings: Settings, batching, lengths: np.ndarray, smallest: int) -> Settings:
    """Settings whose `accumulate` is what `max_units_per_rank` requires, for items of these lengths."""
    if settings.max_units_per_rank is None:
        return settings
    parts = parts_that_fit(batching, lengths, settings.max_units_per_rank, settings.ranks, smallest)
    batching.check(max(smallest, settings.ranks) * parts)
    return replace(settings, accumulate=parts, max_units_per_rank=None)


def alone_in_parts(encoder, objective) -> str:
    """What is computed per part, not per batch, with gradient accumulation, in words; "" for nothing."""
    normed = any(isinstance(x, _BatchNorm) for x in [*encoder.modules(), *objective.modules()])
    return " and ".join(term for term in (objective.batch_terms, "batch norm" if normed else "") if term)


def held_out(job, splits: dict, say) -> np.ndarray | None:
    """Add the validation split to `splits`; return the indices of the items to measure, None for all. With
    trainer.val_every=auto, a missing or too small split is left out with a message."""
    if job.trainer.val_every != "auto" or job.validates_all:
        splits["valid"] = job.data.split("valid")
        return None
    try:
        split = job.data.split("valid")
    except UserError as error:
        say(f"no validation in this run: {error}")
        return None
    found = some_items(
        split.cut_lengths, job.data.batch, job.trainer.max_steps, job.objective.min_batch,
        int(splits["train"].cut_lengths.min()), job.config["seed"],
    )  # fmt: skip
    if len(found):
        splits["valid"] = split
    else:
        say(f"no validation in this run: its split has {len(split)} items, too few for this objective's loss")
    return found


def pretrain(job, run: Run) -> bool:
    """Train a run to its end, resuming from its last checkpoint. True on the first rank, when the last step is done."""
    cluster.check(job.trainer)
    config, smallest = job.config, job.objective.min_batch
    splits = {"train": job.data.split("train")}
    settings = job.trainer = in_parts(job.trainer, job.data.batch, splits["train"].cut_lengths, smallest)
    workers, parts = settings.workers, settings.accumulate

    def say(line: str) -> None:
        print(f"{run.name}: {line}", file=sys.stderr, flush=True)

    measured = None  # indices of the items to validate on, None for all
    if settings.val_every is not None:
        measured = held_out(job, splits, say)
    # the splits for the objective's batches; a refresh, like a probe, reads images at their own size
    shown = {name: split.for_views() if job.objective.crops else split for name, split in splits.items()}
    first = cluster.first_rank(settings)
    if first:
        recover(run, say)
    check_items(run, splits["train"], config, write=first)
    job.data.save(run.folder)
    check_lengths(splits["train"], job.encoder, job.objective, job.data)
    steps = epoch_steps(splits["train"], job.data.batch, smallest, parts)
    save_every = Cadence.parse(settings.save_every, "trainer.save_every", steps)
    val_every = None
    if "valid" in splits:
        often = max(settings.max_steps // AUTO_TIMES, 10) if settings.val_every == "auto" else settings.val_every
        val_every = Cadence.parse(often, "trainer.val_every", steps)
    resume = sound_checkpoint(run, say)  # before any rank starts
    if resume is None:
        job.encoder.fit(splits["train"], config["seed"])
    job.objective.prepare(len(splits["train"]), steps, config["seed"])

    if settings.activation_checkpointing:
        blocks.recompute(job.encoder, job.objective)
    if settings.compile:
        ragged = len(np.unique(splits["train"].cut_lengths)) > 1
        blocks.compile_blocks(job.encoder, job.objective, ragged=ragged)

    def example():
        split = shown.get("valid", shown["train"])
        batch = read_rows(split, ordered(np.arange(min(32, len(split))), seed=0))
        return replace(batch, row_seeds=torch.tensor([rng.derive_seed(0, "show", i) for i in range(len(batch))]))

    if parts > 1 and (terms := alone_in_parts(job.encoder, job.objective)):
        say(f"trainer.accumulate={parts}: each part has its own {terms}, as a batch of 1/{parts} of the size would")
    if line := cluster.left_over(settings):
        say(line)
    rate = getattr(job.data, "sample_rate", None)
    stop = GracefulStop()
    kind = sharding.ShardedPretrain if settings.strategy == "fsdp" else job.module or Pretrain
    module = kind(job.encoder, job.objective, job.optim, config["seed"], settings.max_steps, settings.log_every, parts)
    module.also_log = [val_every.steps] if val_every and val_every.steps else []
    save = partial(job.save, run, {"items": len(splits["train"]), "epoch_steps": steps})
    about = outline(job, splits, None if measured is None else len(measured), steps)
    if settings.progress and first:
        print("\n".join([run.name, *lines(job, about, run.folder, save_every, val_every)]), file=sys.stderr, flush=True)
    throughput = Throughput(settings.arithmetic, settings.tf32, not settings.compile)
    report = ProgressReport(run.name, job.data.modality, rate, throughput) if settings.progress else None
    callbacks = [
        RefreshFeatures(job.data, splits["train"], workers, report.reading if report else quiet),
        job.validation(shown["valid"], val_every, workers, measured) if val_every else None,
        SkippedItems(say) if shown["train"].on_error == "skip" else None,
        Profile(run, say) if settings.profile else None,
        throughput,
        EffectiveBatch(job.data.modality, rate),
        FeatureHealth(),
        CollapseGuard(run, settings.log_every, settings.max_steps, settings.on_collapse == "stop", say),
        OverfitGuard(run, say) if val_every else None,
        *additions.made(config, "callbacks", run),  # before the file, which has what they log
        MetricsFile(run),
        heartbeat := Heartbeat(run, throughput),
        report,
        stop,
        Finish(run, save, example, job.data.describe, about, rate, throughput),
        Checkpoints(run, save_every, settings.keep),
    ]
    loggers = additions.made(config, "logger", run)
    trainer = lightning_trainer(settings, run, [callback for callback in callbacks if callback], loggers)
    if resume is not None:
        say(f"continuing from {resume.name}")
    loaders = Loaders(
        job.data, shown["train"], config["seed"], settings.max_steps, smallest, workers, parts, settings.compile
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers and loggers; ours is in the README
        try:
            trainer.fit(module, datamodule=loaders, ckpt_path=resume, weights_only=True)
        except MisconfigurationException as error:  # such as a callback that needs a logger
            more = " (logger=tensorboard gives one)" if "no logger" in str(error) else ""
            raise ConfigError(f"{str(error).strip()}{more}") from error
        except RuntimeError as error:
            if not heartbeat.lost:
                raise
            raise UserError(f"{heartbeat.lost}: the same command goes on from the last checkpoint") from error
    if stop.signal is not None and not run.done:
        raise Stopped(
            f"stopped by signal {stop.signal} at step {trainer.global_step}: the same command goes on from there"
        )
    if not run.done and trainer.is_global_zero and trainer.global_step < settings.max_steps:
        raise Stopped(
            f"a callback stopped it at step {trainer.global_step} of {settings.max_steps}: the same command goes on"
        )
    return run.done and trainer.is_global_zero


def strategy_of(name: str, ranks: int = 1, timeout: float = 1800.0) -> str | Strategy:
    """The strategy of a name: "fsdp" is FSDP2, the others are Lightning's names. DDP strategies (ddp, ddp_fork,
    ddp_spawn, …) are built here with broadcast_buffers=False: buffers (a queue, a label per image) are initialised from
    the seed and updated with gathered values, so they are equal on all ranks already. gradient_as_bucket_view=True
    saves a copy of the gradients. No static_graph: layer drop changes the graph. timeout: seconds that a rank waits
    for the others."""
    if name == "fsdp":
        return sharding.FullyShardedStrategy(ranks, timeout)
    if name not in StrategyRegistry or StrategyRegistry[name]["strategy"] is not DDPStrategy:
        return name  # "auto", or another that Lightning builds
    how = {**StrategyRegistry[name]["init_params"], "timeout": timedelta(seconds=timeout)}
    return DDPStrategy(**how, broadcast_buffers=False, gradient_as_bucket_view=True)


def lightning_trainer(settings: Settings, run: Run, callbacks: list, loggers: list) -> L.Trainer:
    """Raises ConfigError if Lightning refuses the callbacks, such as two stateful ones of one class."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    plugins, arithmetic, device = [SignedIO()], settings.arithmetic, "cuda" if settings.on_gpu else "cpu"
    if arithmetic != "32-true":
        plugins.append(HalfPrecision(arithmetic, device))
    if (known := cluster.environment(settings)) is not None:
        plugins.append(known)
    allow_tf32(settings.tf32)
    try:
        return L.Trainer(
            accelerator="gpu" if settings.on_gpu else "cpu",
            devices=settings.devices,
            num_nodes=settings.nodes,
            strategy=strategy_of(settings.strategy, settings.ranks, settings.rank_timeout),
            max_steps=settings.max_steps,
            max_epochs=-1,
            gradient_clip_val=settings.gradient_clip,
            accumulate_grad_batches=settings.accumulate,
            limit_val_batches=0,
            log_every_n_steps=settings.log_every,
            logger=loggers or False,
            callbacks=callbacks,
            plugins=plugins,
            profiler=WaitingForData(),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=run.folder,
        )
    except (MisconfigurationException, RuntimeError) as error:
        raise ConfigError(f"callbacks: {' '.join(str(error).split())}") from error
