"""State dicts of torchaudio, fairseq, torchvision and timm: answers of every layer theirs, weights to the bit."""

import argparse
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchaudio.models import wav2vec2_model
from torchvision.models import resnet as theirs_resnet

from sslzoo import weights
from sslzoo.build import load_encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.interop import grammar, sources
from sslzoo.interop.importing import import_run, summary
from sslzoo.interop.targets import export

CLOSE = {"atol": 1e-5, "rtol": 0}
KERNELS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))


def shaken(model):
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return model.eval()


def of_torchaudio(large: bool = False):
    torch.manual_seed(0)
    return shaken(
        wav2vec2_model(
            extractor_mode="layer_norm" if large else "group_norm",
            extractor_conv_layer_config=[(8, *kernel) for kernel in KERNELS],
            extractor_conv_bias=large,
            encoder_embed_dim=64,
            encoder_projection_dropout=0.0,
            encoder_pos_conv_kernel=8,
            encoder_pos_conv_groups=4,
            encoder_num_layers=2,
            encoder_num_heads=1,
            encoder_attention_dropout=0.0,
            encoder_ff_interm_features=24,
            encoder_ff_interm_dropout=0.0,
            encoder_dropout=0.0,
            encoder_layer_norm_first=large,
            encoder_layer_drop=0.0,
            aux_num_out=None,
        )
    )


def as_fairseq(state: dict, large: bool) -> dict:
    """torchaudio's names as fairseq has them, with a quantiser: see torchaudio.models.wav2vec2.utils.import_fairseq."""
    norm = ".2.1." if large else ".2."
    renames = (
        (".conv.", ".0."),
        (".layer_norm.", norm),
        ("encoder.feature_projection.layer_norm", "layer_norm"),
        ("encoder.feature_projection.projection", "post_extract_proj"),
        ("encoder.transformer.", "encoder."),
        ("pos_conv_embed.conv", "pos_conv.0"),
        ("parametrizations.weight.original0", "weight_g"),
        ("parametrizations.weight.original1", "weight_v"),
        (".attention.", ".self_attn."),
        ("feed_forward.intermediate_dense", "fc1"),
        ("feed_forward.output_dense", "fc2"),
    )
    found = {}
    for name, x in state.items():
        convolution = name.startswith("feature_extractor")
        for old, new in renames[:2] if convolution else renames[2:]:
            name = name.replace(old, new)
        if ".layers." in name and name.split(".")[3] == "layer_norm":
            name = name.replace("layer_norm", "self_attn_layer_norm")
        found[name] = x
    return found


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("source", ["torchaudio", "fairseq"])
def test_wav2vec2(source, large, tmp_path):
    model = of_torchaudio(large)
    state = model.state_dict()
    path = tmp_path / "theirs.pt"
    if source == "fairseq":
        g = torch.Generator().manual_seed(0)
        more = {
            "quantizer.vars": (1, 10, 3),
            "quantizer.weight_proj.weight": (10, 8),
            "quantizer.weight_proj.bias": (10,),
        }
        more |= {
            "project_q.weight": (5, 6),
            "project_q.bias": (5,),
            "final_proj.weight": (5, 64),
            "final_proj.bias": (5,),
        }
        more = {name: torch.randn(shape, generator=g) for name, shape in (more | {"mask_emb": (64,)}).items()}
        torch.save({"model": as_fairseq(state, large) | more, "cfg": None}, path)
    else:
        torch.save(state, path)
    run, _ = import_run(f"{source}:{path}", tmp_path)
    assert f"2 x 64, speech at 16,000 Hz, pooled by mean{', with its head' if source == 'fairseq' else ''}" in summary(
        run, "it"
    )
    assert "taken for granted: strides [5, 2" in summary(run, "it")
    encoder, _ = load_encoder(run)
    wave = 0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0)) + 0.02
    given = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt() if large else wave
    with torch.no_grad():
        ours = encoder(wave, torch.tensor([4000]))
        layers, _ = model.extract_features(given)
    for a, b in zip(ours.hidden[1:-1], layers[:-1], strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    last = model.encoder.transformer.layer_norm(layers[-1]) if large else layers[-1]
    torch.testing.assert_close(ours.last, last, **CLOSE)
    if source == "fairseq":
        head = weights.load(run.objective_weights, "")
        assert torch.equal(head["quantizer.codes"].flatten(0, 1)[None], more["quantizer.vars"])
        assert torch.equal(head["mask_token"], more["mask_emb"])
    else:
        export(run, "torchaudio", tmp_path / "out")
        back = load_file(tmp_path / "out" / "model.safetensors")
        assert back.keys() == state.keys() and all(torch.equal(x, state[name]) for name, x in back.items())
        arguments = json.loads((tmp_path / "out" / "config.json").read_text())["arguments"]
        arguments = {k: v for k, v in arguments.items() if k not in ("normalize", "sample_rate")}
        wav2vec2_model(**arguments, aux_num_out=None).load_state_dict(back)
        again, _ = import_run(f"torchaudio:{tmp_path / 'out'}", tmp_path / "again")
        assert "taken for granted" not in summary(again, "it")


def test_a_pickle_of_more_than_tensors_is_refused(tmp_path):
    torch.save({"args": argparse.Namespace(lr=1), "model": {}}, tmp_path / "old.pt")
    with pytest.raises(UserError, match=r"holds more than tensors.*torch\.save\(\{'model'") as error:
        import_run(f"fairseq:{tmp_path / 'old.pt'}", tmp_path)
    assert "\n" not in str(error.value)
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"bad.pt (is damaged|holds more)"):
        import_run(f"fairseq:{tmp_path / 'bad.pt'}", tmp_path)


def test_a_tensor_too_many_and_one_missing(tmp_path):
    state = dict(of_torchaudio().state_dict())
    torch.save(state | {"encoder.more.weight": torch.zeros(2)}, tmp_path / "more.pt")
    with pytest.raises(UserError, match=r"has weights that this architecture has not: encoder.more.weight"):
        import_run(f"torchaudio:{tmp_path / 'more.pt'}", tmp_path)
    name = "encoder.transformer.layers.1.final_layer_norm.bias"
    torch.save({k: x for k, x in state.items() if k != name}, tmp_path / "less.pt")
    with pytest.raises(UserError, match=f"lacks {name}"):
        import_run(f"torchaudio:{tmp_path / 'less.pt'}", tmp_path)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_residual_networks_of_torchvision(name, tmp_path):
    torch.manual_seed(0)
    model = getattr(theirs_resnet, name)()
    model(torch.rand(4, 3, 32, 32))  # running means that are not 0
    state = {k: x.contiguous() for k, x in model.eval().state_dict().items()}
    save_file(state, tmp_path / "theirs.safetensors")
    run, _ = import_run(f"torchvision:{tmp_path / 'theirs.safetensors'}", tmp_path)
    encoder, data = load_encoder(run)
    assert data.size == 224 and "normalised as ImageNet's" in summary(run, "it")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        ours = encoder(images, torch.ones(2, dtype=torch.long)).pooled
        model.fc = torch.nn.Identity()
        expected = model((images - encoder.mean) / encoder.std)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)
    export(run, "torchvision", tmp_path / "out")
    back = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(x, state[name]) and x.dtype == state[name].dtype for name, x in back.items())
    assert state.keys() - back.keys() == {"fc.weight", "fc.bias"}
    model.load_state_dict(back)
    with pytest.raises(UserError, match="an encoder of ResNet has no counterpart there"):
        export(run, "timm", tmp_path / "timm")


@pytest.mark.parametrize("scale", [None, 0.5])
def test_vision_transformers_of_timm(scale, tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    arguments = {"img_size": 16, "patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 1, "init_values": scale}
    model = shaken(timm.models.vision_transformer.VisionTransformer(**arguments, num_classes=3))
    save_file(model.state_dict(), tmp_path / "theirs.safetensors")
    run, _ = import_run(f"timm:{tmp_path / 'theirs.safetensors'}", tmp_path)
    assert "heads of 64 channels, images normalised by 0.5 and 0.5" in summary(run, "it")
    encoder, _ = load_encoder(run)
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        ours = encoder(images, torch.ones(2, dtype=torch.long))
        last, layers = model.forward_intermediates(images * 2 - 1, output_fmt="NLC", return_prefix_tokens=True)
    for a, (patches, prefix) in zip(ours.hidden[1:-1], layers[:-1], strict=True):
        torch.testing.assert_close(a, torch.cat([prefix, patches], 1), **CLOSE)
    torch.testing.assert_close(ours.last, last, **CLOSE)
    export(run, "timm", tmp_path / "out")
    back = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(x, model.state_dict()[name]) for name, x in back.items())
    said = json.loads((tmp_path / "out" / "config.json").read_text())["arguments"]
    said = {k: v for k, v in said.items() if k not in ("mean", "std")}
    timm.models.vision_transformer.VisionTransformer(**said, num_classes=0).load_state_dict(back)


def test_names_are_looked_for_in_caches_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for source, said in (
        ("torchaudio:WAV2VEC2_BASE", "has no wav2vec2_fairseq_base_ls960.pth, and nothing is downloaded"),
        ("torchaudio:WAV2VEC2_BAS", "did you mean 'WAV2VEC2_BASE'"),
        ("torchvision:resnet18", "resnet18-f37072fd.pth, and nothing is downloaded"),
        ("torchvision:convnext_tiny", "of torchvision resnet101"),
        ("timm:vit_tiny_patch16_224", "has no weights of timm's vit_tiny_patch16_224"),
        ("fairseq:nowhere.pt", "there is no file nowhere.pt"),
    ):
        with pytest.raises(UserError, match=said):
            sources.opened(source)
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    torch.save(theirs_resnet.resnet18().state_dict(), checkpoints / "resnet18-f37072fd.pth")
    assert sources.opened("torchvision:resnet18").config["layers"] == [2, 2, 2, 2]


def test_one_grammar():
    assert (*sources.SOURCES, grammar.OWN, grammar.UNTRAINED) == grammar.PREFIXES
    assert grammar.is_source("timm:vit") and not grammar.is_source("runs/mine") and not grammar.is_source("hf:")
    with pytest.raises(ConfigError, match="hf:…, torchaudio:…"):
        sources.opened("keras:model")
