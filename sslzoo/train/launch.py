"""Training a run from its built parts: Lightning's trainer, our callbacks, and resuming from a checkpoint."""

import logging
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy, StrategyRegistry
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from sslzoo import rng
from sslzoo.data.loader import ordered, read_rows, train_loader
from sslzoo.errors import ConfigError, Stopped, UserError
from sslzoo.pretrain import Pretrain
from sslzoo.progress import quiet
from sslzoo.run import Run
from sslzoo.train import additions, blocks, cluster, sharding
from sslzoo.train.checkpoint import Checkpoints, SignedIO, sound_checkpoint
from sslzoo.train.effective_batch import EffectiveBatch
from sslzoo.train.finish import Finish, GracefulStop
from sslzoo.train.guards import CollapseGuard, OverfitGuard
from sslzoo.train.health import FeatureHealth
from sslzoo.train.heartbeat import Heartbeat
from sslzoo.train.items import check_items
from sslzoo.train.metrics import MetricsFile
from sslzoo.train.outline import lines, outline
from sslzoo.train.plan import Plan, alone_in_parts, check_lengths, planned
from sslzoo.train.precision import HalfPrecision, allow_tf32
from sslzoo.train.profile import Profile
from sslzoo.train.progress import ProgressReport
from sslzoo.train.recover import recover
from sslzoo.train.refresh import RefreshFeatures
from sslzoo.train.settings import Settings
from sslzoo.train.skipped import SkippedItems
from sslzoo.train.throughput import Throughput, WaitingForData


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


def pretrain(job, run: Run) -> bool:
    """Train a run to its end, resuming from its last checkpoint. True on the first rank, when the last step is done."""

    def say(line: str) -> None:
        print(f"{run.name}: {line}", file=sys.stderr, flush=True)

    cluster.check(job.trainer)
    plan, first = planned(job, say), cluster.first_rank(job.trainer)
    if first:
        recover(run, say)
    check_items(run, plan.train, job.config, write=first)
    job.data.save(run.folder)
    check_lengths(plan.train, job.encoder, job.objective, job.data)
    resume = sound_checkpoint(run, say)  # before any rank starts
    module = made_ready(job, plan, fresh=resume is None)
    settings, parts = job.trainer, job.trainer.accumulate
    if parts > 1 and (terms := alone_in_parts(job.encoder, job.objective)):
        say(f"trainer.accumulate={parts}: each part has its own {terms}, as a batch of 1/{parts} of the size would")
    if line := cluster.left_over(settings):
        say(line)
    callbacks = callbacks_of(job, run, plan, say)
    trainer = lightning_trainer(settings, run, callbacks, additions.made(job.config, "logger", run))
    if resume is not None:
        say(f"continuing from {resume.name}")
    loaders = Loaders(
        job.data, plan.shown["train"], job.config["seed"], settings.max_steps, job.objective.min_batch,
        settings.workers, parts, settings.compile,
    )  # fmt: skip
    fit(trainer, module, loaders, resume, run)
    return run.done and trainer.is_global_zero


def made_ready(job, plan: Plan, fresh: bool) -> Pretrain:
    """The module of a job, as its first step, or a checkpoint, finds it."""
    settings, seed = job.trainer, job.config["seed"]
    if fresh:
        job.encoder.fit(plan.train, seed)
    job.objective.prepare(len(plan.train), plan.epoch_steps, seed)
    if settings.activation_checkpointing:
        blocks.recompute(job.encoder, job.objective)
    if settings.compile:
        ragged = len(np.unique(plan.train.cut_lengths)) > 1
        blocks.compile_blocks(job.encoder, job.objective, ragged=ragged)
    kind = sharding.ShardedPretrain if settings.strategy == "fsdp" else job.module or Pretrain
    module = kind(
        job.encoder, job.objective, job.optim, seed, settings.max_steps, settings.log_every, settings.accumulate
    )
    module.also_log = [plan.val_every.steps] if plan.val_every and plan.val_every.steps else []
    return module


def callbacks_of(job, run: Run, plan: Plan, say: Callable[[str], None]) -> list[L.Callback]:
    """In the order in which they are called; the outline of the run is printed on the way."""
    settings, shown, rate = job.trainer, plan.shown, getattr(job.data, "sample_rate", None)
    about = outline(job, plan.splits, None if plan.measured is None else len(plan.measured), plan.epoch_steps)
    if settings.progress and cluster.first_rank(settings):
        told = [run.name, *lines(job, about, run.folder, plan.save_every, plan.val_every)]
        print("\n".join(told), file=sys.stderr, flush=True)

    def example():
        split = shown.get("valid", shown["train"])
        batch = read_rows(split, ordered(np.arange(min(32, len(split))), seed=0))
        return replace(batch, row_seeds=torch.tensor([rng.derive_seed(0, "show", i) for i in range(len(batch))]))

    save = partial(job.save, run, {"items": len(plan.train), "epoch_steps": plan.epoch_steps})
    throughput = Throughput(settings.arithmetic, settings.tf32, not settings.compile)
    report = ProgressReport(run.name, job.data.modality, rate, throughput) if settings.progress else None
    found = [
        RefreshFeatures(job.data, plan.train, settings.workers, report.reading if report else quiet),
        job.validation(shown["valid"], plan.val_every, settings.workers, plan.measured) if plan.val_every else None,
        SkippedItems(say) if shown["train"].on_error == "skip" else None,
        Profile(run, say) if settings.profile else None,
        throughput,
        EffectiveBatch(job.data.modality, rate),
        FeatureHealth(),
        CollapseGuard(run, settings.log_every, settings.max_steps, settings.on_collapse == "stop", say),
        OverfitGuard(run, say) if plan.val_every else None,
        *additions.made(job.config, "callbacks", run),  # before the file, which has what they log
        MetricsFile(run),
        Heartbeat(run, throughput),
        report,
        GracefulStop(),
        Finish(run, save, example, job.data.describe, about, rate, throughput),
        Checkpoints(run, plan.save_every, settings.keep),
    ]
    return [callback for callback in found if callback]


def fit(trainer: L.Trainer, module: Pretrain, loaders: Loaders, resume: Path | None, run: Run) -> None:
    """Raises Stopped where a signal or a callback ended it early, and UserError where a rank was lost."""
    heartbeat, stop = (
        next(callback for callback in trainer.callbacks if isinstance(callback, kind))
        for kind in (Heartbeat, GracefulStop)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers and loggers; ours is in the README
        try:
            trainer.fit(module, datamodule=loaders, ckpt_path=resume, weights_only=True)
        except Exception as error:
            cluster.end_started(trainer.strategy.launcher)
            if isinstance(error, MisconfigurationException):  # such as a callback that needs a logger
                more = " (logger=tensorboard gives one)" if "no logger" in str(error) else ""
                raise ConfigError(f"{str(error).strip()}{more}") from error
            if isinstance(error, RuntimeError) and heartbeat.lost:
                raise UserError(f"{heartbeat.lost}: the same command goes on from the last checkpoint") from error
            raise
    step, last = trainer.global_step, module.total_steps
    if stop.stopped_by is not None and not run.done:
        raise Stopped(f"stopped by signal {stop.stopped_by} at step {step}: the same command goes on from there")
    if not run.done and trainer.is_global_zero and step < last:
        raise Stopped(f"a callback stopped it at step {step} of {last}: the same command goes on")


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
