"""Half precision touches encoder and heads, and nothing else: every objective, under a GPU's casts on the CPU."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from cuda_casts import OTHERS, cuda_casts, lists, registered
from test_contracts import batch_of, gradients, ready, still, train
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sslzoo.augment.base import Views
from sslzoo.augment.image_views import ImageViews
from sslzoo.encoders.base import Encoded
from sslzoo.encoders.codes import Codes
from sslzoo.nn.health import representation_health
from sslzoo.nn.linear import Linear
from sslzoo.nn.linear_cross_entropy import LinearCrossEntropy
from sslzoo.nn.quantize import GumbelQuantizer, KMeansQuantizer
from sslzoo.pretrain import Pretrain
from sslzoo.train.precision import HALF, HalfPrecision, Region

PRODUCTS = (nn.Linear, Linear, nn.Conv1d, nn.Conv2d)

# their targets are places, and their candidates tokens
PLACES = {"cpc", "wav2vec", "vq_wav2vec", "vq_wav2vec_kmeans"}


@pytest.fixture
def casts():
    with cuda_casts():
        yield


@pytest.fixture(params=["bf16-mixed", "16-mixed"])
def plugin(request) -> HalfPrecision:
    return HalfPrecision(request.param, "cpu")


def converted(config: dict, plugin: HalfPrecision | None):
    """A job as the trainer has it, with its first batch; without a plugin, in float32."""
    job = still(ready(config))
    if plugin is not None:
        plugin.convert_module(Pretrain(job.encoder, job.objective, job.optim, 0, 10))
    return job, batch_of(job, 0)


def step(config: dict, plugin: HalfPrecision | None, context=None):
    """Logs and gradients of a step at which everything is measured."""
    job, batch = converted(config, plugin)
    with (context or (plugin.train_step_context if plugin else torch.enable_grad))():
        return gradients(job, batch, 0)


class Halves(TorchDispatchMode):
    """The operations outside all regions that are given, or give, half precision."""

    def __init__(self, monkeypatch):
        super().__init__()
        self.found, self.depth, call = set(), 0, Region.__call__

        def counted(region, *args, **kwargs):
            depth, self.depth = self.depth, 0 if region.dtype is None else self.depth + 1
            try:
                return call(region, *args, **kwargs)
            finally:
                self.depth = depth

        monkeypatch.setattr(Region, "__call__", counted)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        if not self.depth and any(
            isinstance(x, Tensor) and x.dtype in HALF.values() for x in tree_leaves((args, found))
        ):
            self.found.add(str(operation))
        return found


def test_networks_compute_in_half_and_nothing_else_does(objective, plugin, casts, monkeypatch):
    job, batch = converted(tiny(objective), plugin)
    modules = [*job.encoder.modules(), *job.objective.modules()]
    full = {m for q in modules if isinstance(q, GumbelQuantizer | KMeansQuantizer) for m in q.modules()}
    full |= {m for codes in modules if isinstance(codes, Codes) for m in codes.waves.modules()}  # codes are targets
    names = {m: n for n, m in nn.ModuleDict({"encoder": job.encoder, "objective": job.objective}).named_modules()}
    dtypes = {}
    for kind in PRODUCTS:

        def forward(module, x, forward=kind.forward):
            found = forward(module, x)
            dtypes[module] = found.dtype
            return found

        monkeypatch.setattr(kind, "forward", forward)
    with plugin.train_step_context(), Halves(monkeypatch) as halves:
        loss = job.objective(job.encoder, batch, 0)
    assert not halves.found
    assert loss.value.dtype == torch.float32
    assert any(names[module].startswith("encoder") for module in dtypes)
    for module, dtype in dtypes.items():
        assert dtype == (torch.float32 if module in full else plugin.dtype), names[module]
    (loss.value * 64).backward()  # so small a scale that float16 does not overflow
    for name, parameter in [*job.encoder.named_parameters(), *job.objective.named_parameters()]:
        if parameter.requires_grad:
            assert parameter.grad.dtype == torch.float32 and torch.isfinite(parameter.grad).all(), name


def test_a_recurrent_encoder_computes_in_half(casts):
    """Its products are no modules."""
    job, batch = converted(tiny("apc"), HalfPrecision("bf16-mixed", "cpu"))
    dtypes = set()

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            if operation in (torch.ops.aten.addmm.default, torch.ops.aten.mm.default):
                dtypes.update(x.dtype for x in args if isinstance(x, Tensor))
            return operation(*args, **(kwargs or {}))

    tokens, lengths = job.encoder.embed(batch.inputs, batch.lengths)
    with Products():
        found = job.encoder.contextualize(tokens, lengths)
    assert dtypes == {torch.bfloat16} and {x.dtype for x in found.hidden} == {torch.float32}


def given(config: dict, plugin: HalfPrecision | None, monkeypatch) -> list[Tensor]:
    """Every view, mask and target of a step."""
    job, batch = converted(config, plugin)
    found: list[Tensor] = []

    def record(owner, name: str, what=lambda args, result: result):
        function = getattr(owner, name)

        def recorded(*args, **kwargs):
            result = function(*args, **kwargs)
            found.extend(x.clone() for x in tree_leaves(what(args, result)) if isinstance(x, Tensor))
            return result

        patch.setattr(owner, name, recorded)

    with monkeypatch.context() as patch:
        for view in {type(m) for m in job.objective.modules() if isinstance(m, Views)}:
            for name in {"forward", "draw"} & vars(view).keys():
                record(view, name, lambda _, result: getattr(result, "views", result))
        for mask in {type(m) for m in vars(job.objective).values() if type(m).__module__.endswith("masking")}:
            record(mask, "__call__")
        for method in {"codes", "target", "pairs", "rotated"} & vars(type(job.objective)).keys():
            record(type(job.objective), method)
        record(LinearCrossEntropy, "forward", lambda args, _: args[3])
        for loss in (
            "cross_entropy",
            "kl_div",
            "l1_loss",
            "mse_loss",
            "ctc_loss",
            "binary_cross_entropy_with_logits",
        ):  # VICReg's compares two embeddings: none is a target
            record(F, loss, lambda args, _: () if args[1].requires_grad else args[1])
        with plugin.train_step_context() if plugin else torch.enable_grad():
            job.objective(job.encoder, batch, 0)
    return found


def test_views_masks_and_targets_are_float32s(objective, plugin, casts, monkeypatch):
    """To the bit: nothing that is computed in half comes near them."""
    config = tiny(objective)
    whole, half = given(config, None, monkeypatch), given(config, plugin, monkeypatch)
    assert len(whole) == len(half)
    assert bool(whole) != (objective in PLACES)
    for a, b in zip(whole, half, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)


def replayed(config: dict, plugin: HalfPrecision, found: list | None, monkeypatch) -> tuple[dict, list]:
    """A step's logs, and what left each region computed in float32; with `found`, of a step whose regions compute
    in half, and give what is found there."""
    job, batch = converted(config, plugin)
    call, left, depth = Region.__call__, [], 0

    def outermost(region, *args, **kwargs):
        nonlocal depth
        if region.dtype is None or depth:
            return call(region, *args, **kwargs) if region.dtype is None or found else region.call(*args, **kwargs)
        depth += 1
        try:
            left.append(call(region, *args, **kwargs) if found else region.call(*args, **kwargs))
        finally:
            depth -= 1
        return found[len(left) - 1] if found else left[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Region, "__call__", outermost)
        with plugin.train_step_context():
            loss = job.objective(job.encoder, batch, 0)
            logs = {"loss": loss.value.detach(), **loss.logs()}
    return logs, left


def test_the_loss_of_the_same_outputs_is_float32s(objective, plugin, casts, monkeypatch):
    """Of the same outputs of encoder and heads: what an objective computes itself is float32."""
    config = tiny(objective)
    logs, left = replayed(config, plugin, None, monkeypatch)
    assert float(logs["loss"]) == pytest.approx(step(config, None)[0]["loss"], rel=1e-6)  # that is float32's
    same, halves = replayed(config, plugin, left, monkeypatch)
    assert same.keys() == logs.keys() and len(left) == len(halves) > 0
    for name, value in logs.items():
        assert float(same[name]) == pytest.approx(float(value), rel=1e-5), name
    whole, half = (
        tree_leaves([vars(x) if isinstance(x, Encoded) else x for x in outputs]) for outputs in (left, halves)
    )
    assert not all(torch.equal(a, b) for a, b in zip(whole, half, strict=True)), "the regions computed in float32"


def test_the_casts_are_cudas():
    assert lists().keys() | OTHERS == registered("AutocastCUDA")
    x = torch.eye(4)
    theta, shape = torch.eye(2, 3)[None], [1, 1, 4, 4]
    for _ in range(2):  # and leave nothing behind
        with cuda_casts(), torch.autocast("cpu", torch.bfloat16):
            assert (x @ x).dtype == F.affine_grid(theta, shape, align_corners=False).dtype == torch.bfloat16
            for float32 in ((x @ x).softmax(1), (x @ x).sum(), (x @ x).sum(0), (x @ x).exp(), (x @ x).norm(dim=1)):
                assert float32.dtype == torch.float32
            assert torch.dot((x @ x)[0], x[0]).dtype == torch.float32  # the widest
            with pytest.raises(NotImplementedError, match="BFloat16"):
                torch.linalg.eigvalsh(x @ x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.linalg.eigvalsh(x @ x).dtype == torch.float32
            assert (x @ x).exp().dtype == torch.bfloat16


def whole_step():
    return torch.autocast("cpu", torch.bfloat16, cache_enabled=False)


def test_without_the_rule_health_fails(casts):
    """What objectives that compare views have in common: a covariance that would be half, and its eigenvalues."""
    features = torch.randn(6, 8)
    with whole_step(), pytest.raises(NotImplementedError, match="BFloat16"):
        representation_health(features)


def test_without_the_rule_targets_move(casts):
    job, batch = converted(tiny("best_rq", "objective.entries=8192"), None)
    features, _ = job.encoder.features(batch.inputs, batch.lengths)
    codes = job.objective.codes(features)
    with whole_step():
        assert not torch.equal(job.objective.codes(features), codes)
    job, _ = converted(tiny("best_rq", "objective.entries=8192"), HalfPrecision("bf16-mixed", "cpu"))
    assert torch.equal(job.objective.codes(job.encoder.features(batch.inputs, batch.lengths)[0]), codes)


def test_without_the_rule_views_move(casts):
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    views, seeds = ImageViews(), torch.arange(8)
    with whole_step():
        moved = views(images, seeds, "view")
    assert float((moved - views(images, seeds, "view")).abs().mean()) > 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("precision", ["32", "bf16", "fp16"])
@pytest.mark.parametrize("tf32", [False, True])
def test_on_a_gpu(objective, precision, tf32, tmp_path):
    """The first step's loss is the CPU's, as far as its precision goes, and the scaler finds its scale."""
    said = [f"trainer.precision={precision}", f"trainer.tf32={str(tf32).lower()}", "trainer.log_every=1"]
    run = train(tiny(objective, "trainer.accelerator=gpu", "trainer.max_steps=12", *said), tmp_path / "gpu")
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32
    header, *rows = (line.split(",") for line in run.metrics.read_text().splitlines())
    losses = [float(row[header.index("loss")]) for row in rows]
    assert run.done and all(map(math.isfinite, losses))
    cpu = train(
        tiny(objective, "trainer.accelerator=cpu", "trainer.max_steps=1", "trainer.log_every=1"), tmp_path / "cpu"
    )
    header, row = (line.split(",") for line in cpu.metrics.read_text().splitlines())
    exact = precision == "32" and not tf32
    assert losses[0] == pytest.approx(float(row[header.index("loss")]), rel=1e-4 if exact else 0.03)
