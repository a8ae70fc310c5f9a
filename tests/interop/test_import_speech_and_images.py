"""Encoders of speech and images of transformers as runs: hidden states of every layer and pooled vectors are theirs."""

import json

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from sslzoo.build import load_encoder, load_objective

transformers = pytest.importorskip("transformers")
import foreign_waves_and_images as theirs

from sslzoo.data.base import Batch
from sslzoo.errors import UserError
from sslzoo.interop import names
from sslzoo.interop.folder import Folder
from sslzoo.interop.importing import Imported, import_run, summary

CLOSE = {"atol": 1e-5, "rtol": 0}
LENGTHS = (9000, 4000, 20000)  # samples; Whisper's chunks are of 16,000 here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function from the name of a family to its folder, which is made once."""
    made = {}

    def of(family: str, head: bool = False):
        if (family, head) not in made:
            made[family, head] = theirs.folder_of(family, tmp_path_factory.mktemp(family) / "theirs", head)
        return made[family, head]

    return of


@pytest.mark.parametrize("family", theirs.SPEECH)
def test_hidden_states_of_speech_in_padded_batches(family, folder, tmp_path):
    encoder, data = load_encoder(import_run(f"hf:{folder(family)}", tmp_path)[0])
    waves = theirs.waves(*(LENGTHS if family != "whisper" else (9000, 4000, 16000)))
    lengths = torch.tensor([len(wave) for wave in waves])
    with torch.no_grad():
        ours = encoder(pad_sequence(list(map(torch.from_numpy, waves)), batch_first=True), lengths)
    assert data.sample_rate == 16000 and data.modality == encoder.modality == "speech"
    for row, wave in enumerate(waves):
        expected, size = theirs.theirs_of_wave(folder(family), wave), int(ours.lengths[row])
        assert len(ours.hidden) == len(expected) == 4
        if family == "whisper":
            assert size == -(-len(wave) // 320)
        else:
            assert size == expected[0].shape[1]
        for a, b in zip(ours.hidden, expected, strict=True):
            torch.testing.assert_close(a[row, :size], b[0, :size], **CLOSE)
        torch.testing.assert_close(ours.pooled[row], expected[-1][0, :size].mean(0), **CLOSE)


def test_whisper_goes_on_after_thirty_seconds(folder, tmp_path):
    """In chunks, each as if it were alone."""
    encoder, _ = load_encoder(import_run(f"hf:{folder('whisper')}", tmp_path)[0])
    [wave] = map(torch.from_numpy, theirs.waves(20000))
    with torch.no_grad():
        whole = encoder(wave[None], torch.tensor([20000]))
        parts = [encoder(part[None], torch.tensor([len(part)])) for part in wave.split(16000)]
    assert whole.lengths.tolist() == [63]
    for number, h in enumerate(whole.hidden):
        torch.testing.assert_close(h[:, :63], torch.cat([part.hidden[number] for part in parts], 1)[:, :63], **CLOSE)


@pytest.mark.parametrize("family", theirs.IMAGES)
def test_hidden_states_of_images(family, folder, tmp_path):
    encoder, data = load_encoder(import_run(f"hf:{folder(family)}", tmp_path)[0])
    assert data.size == (12 if family.endswith("_resized") else 16)
    assert data.mean == theirs.MEAN and data.std == theirs.STD
    images = theirs.pictures(data.size)
    with torch.no_grad():
        ours = encoder(images, torch.ones(3, dtype=torch.long))
    expected = theirs.theirs_of_pictures(folder(family), images)
    assert len(ours.hidden) == len(expected.hidden_states) == 4
    for a, b in zip(ours.hidden, [*expected.hidden_states[:-1], expected.last_hidden_state], strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    pooled = getattr(expected, "pooler_output", None)
    pooled = expected.last_hidden_state[:, 0] if pooled is None else pooled
    torch.testing.assert_close(ours.pooled, pooled, **CLOSE)
    assert encoder.pool == ("pooler" if family == "vit" else "first")


@pytest.mark.parametrize("family", [*theirs.SPEECH, *theirs.IMAGES])
def test_weights_go_out_again_to_the_bit(family, folder):
    found = Imported(Folder.open(folder(family)))
    back = names.to_theirs(found.table, found.weights, found.rows, channels=3)
    tensors = {name.removeprefix(found.family.prefix): x for name, x in found.folder.tensors().items()}
    tensors = {name.removeprefix("encoder.") if family == "whisper" else name: x for name, x in tensors.items()}
    assert set(back) <= set(tensors) and len(back) > 30
    for name, x in back.items():
        assert x.shape == tensors[name].shape and torch.equal(x, tensors[name]), name
    left = {"wavlm": 1, "wavlm_large": 1, "wav2vec2": 1, "wav2vec2_large": 1, "hubert": 1, "data2vec": 1}
    left |= dict.fromkeys([name for name in theirs.IMAGES if "vit" not in name], 1)  # a mask token
    decoder = sum(name.startswith("decoder.") for name in tensors)
    assert len(tensors) - len(back) == left.get(family, decoder)


def test_the_heads_are_the_objective_s(folder, tmp_path):
    objective, encoder, _ = load_objective(import_run(f"hf:{folder('wav2vec2', True)}", tmp_path)[0])
    model = transformers.Wav2Vec2ForPreTraining.from_pretrained(folder("wav2vec2", True)).eval()
    wave = torch.from_numpy(theirs.waves(9000)[0])[None]
    lengths = torch.tensor([9000])
    with torch.no_grad():
        features, frames = encoder.features(wave, lengths)
        codes, _, _ = objective.quantizer(encoder.normalize(features)[0], None, 1.0)
        answer = model((wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt())
        context = objective.project_context(encoder.contextualize(*encoder.project(features, frames)).last)
    torch.testing.assert_close(objective.project_code(codes), answer.projected_quantized_states[0], **CLOSE)
    torch.testing.assert_close(context, answer.projected_states, **CLOSE)
    assert torch.equal(objective.mask_token, model.wav2vec2.masked_spec_embed)


def test_maes_decoder_is_the_objective_s(folder, tmp_path):
    objective, encoder, _ = load_objective(import_run(f"hf:{folder('vit_mae', True)}", tmp_path)[0])
    model = transformers.ViTMAEForPreTraining.from_pretrained(folder("vit_mae", True)).eval()
    images = theirs.pictures(16)
    batch = Batch(images, torch.ones(3, dtype=torch.long), torch.arange(3), torch.arange(3))
    _, back = objective.shuffle(batch.row_seeds, 16, images.device)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (theirs.MEAN, theirs.STD))
    with torch.no_grad():
        answer = model((images / 255 - mean) / std, noise=back.float())
        _, prediction, mask = objective.rebuild(encoder, batch)
    assert torch.equal(mask, answer.mask.bool())
    torch.testing.assert_close(prediction, answer.logits, **CLOSE)


def test_a_folder_without_a_feature_extractor_says_what_is_assumed(folder, tmp_path):
    path = theirs.folder_of("hubert", tmp_path / "bare")
    (path / "preprocessor_config.json").unlink()
    run, _ = import_run(f"hf:{path}", tmp_path / "runs")
    assert "no preprocessor_config.json" in summary(run, "hf:bare")
    assert load_encoder(run)[0].frontend.normalize_input


def test_settings_that_make_another_encoder(folder, tmp_path):
    path = theirs.folder_of("vit", tmp_path / "vit")
    before = json.loads((path / "config.json").read_text())
    for change, said in (({"qkv_bias": False}, "qkv_bias is False"), ({"image_size": [16, 8]}, "only squares")):
        (path / "config.json").write_text(json.dumps(before | change))
        with pytest.raises(UserError, match=said):
            import_run(f"hf:{path}", tmp_path / "runs")


BASE = {
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
    "data2vec": (transformers.Data2VecAudioConfig, transformers.Data2VecAudioModel),
    "whisper": (transformers.WhisperConfig, transformers.WhisperModel),
    "vit": (transformers.ViTConfig, transformers.ViTModel),
    "vit_mae": (transformers.ViTMAEConfig, transformers.ViTMAEModel),
    "dinov2": (transformers.Dinov2Config, transformers.Dinov2Model),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", BASE)
def test_base_shape(family, tmp_path):
    torch.manual_seed(0)
    config, kind = BASE[family]
    kind(config()).eval().save_pretrained(tmp_path / "theirs")
    if family == "whisper":
        transformers.WhisperFeatureExtractor().save_pretrained(tmp_path / "theirs")
    elif family in theirs.SPEECH:
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "theirs")
    else:
        transformers.ViTImageProcessor().save_pretrained(tmp_path / "theirs")
    encoder, data = load_encoder(import_run(f"hf:{tmp_path / 'theirs'}", tmp_path)[0])
    if family in theirs.SPEECH:
        [wave] = theirs.waves(16000)
        with torch.no_grad():
            ours = encoder(torch.from_numpy(wave)[None], torch.tensor([16000]))
        expected = theirs.theirs_of_wave(tmp_path / "theirs", wave)
    else:
        images = theirs.pictures(data.size)[:1]
        with torch.no_grad():
            ours = encoder(images, torch.ones(1, dtype=torch.long))
        answer = theirs.theirs_of_pictures(tmp_path / "theirs", images)
        expected = [*answer.hidden_states[:-1], answer.last_hidden_state]
    for a, b in zip(ours.hidden, expected, strict=True):
        torch.testing.assert_close(a, b[:, : a.shape[1]], atol=1e-5, rtol=1e-5)
