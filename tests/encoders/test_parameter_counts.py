"""The published models have as many weights as elsewhere; made on `meta`, so that none takes memory."""

from types import SimpleNamespace

import pytest
import torch
import torchvision
from test_every_encoder import config, weights

from sslzoo.augment.masking import SpanMask, TokenMask
from sslzoo.build import make
from sslzoo.data.sentence_rows import NextSentence
from sslzoo.objectives.bert import BERT
from sslzoo.objectives.bert_nsp import BERTNextSentence
from sslzoo.objectives.hubert import HuBERT


def count(name: str, **changes) -> int:
    node = config(name)
    for path, value in changes.items():
        *above, key = path.split("__")
        part = node
        for step in above:
            part = part[step]
        part[key] = value
    with torch.device("meta"):
        return weights(make(node))


def meta(make_theirs) -> int:
    with torch.device("meta"):
        return weights(make_theirs())


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def conv_stack(bias: bool, norms: int) -> int:
    kernels = [10, 3, 3, 3, 3, 2, 2]
    return sum(512 * (512 if i else 1) * k + 512 * bias for i, k in enumerate(kernels)) + norms * 2 * 512


def layers(dim: int, depth: int) -> int:
    return depth * (4 * (dim * dim + dim) + (dim * 4 * dim + 4 * dim) + (4 * dim * dim + dim) + 2 * 2 * dim)


def test_wav2vec2_base(transformers):
    ours = count("wav2vec2_base")
    position = 768 * 48 * 128 + 128 + 768
    closed = conv_stack(False, 1) + 2 * 512 + (512 * 768 + 768) + position + 2 * 768 + layers(768, 12)
    theirs = meta(lambda: transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()))
    assert ours == closed == theirs - 768 == 94_370_944  # they hold the mask's embedding, the objective does here


def test_hubert_base(monkeypatch):
    """HuBERT's encoder is wav2vec 2.0's; the objective adds the mask, the projection and an embedding a cluster."""
    import torchaudio

    ours = count("wav2vec2_base")
    assert ours == meta(torchaudio.models.hubert_base) == 94_370_944
    with torch.device("meta"):
        encoder = make(config("wav2vec2_base"))
        data = SimpleNamespace(sample_rate=16000, targets=SimpleNamespace(clusters=100, hop=320))
        head = weights(HuBERT(encoder, data, SpanMask(0.8, 10)))
    assert head == 768 + (768 * 256 + 256) + 100 * 256
    # its first weights are drawn on the CPU, which `meta` cannot be copied to
    monkeypatch.setattr("torchaudio.models.wav2vec2.model._init_hubert_pretrain_model", lambda module: None)
    assert ours + head == meta(lambda: torchaudio.models.hubert_pretrain_base(num_classes=100)) == 94_594_176


def test_wav2vec2_large(transformers):
    config = transformers.Wav2Vec2Config(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        conv_bias=True,
        do_stable_layer_norm=True,
    )
    theirs = meta(lambda: transformers.Wav2Vec2Model(config))
    position = 1024 * 64 * 128 + 128 + 1024
    closed = conv_stack(True, 7) + 2 * 512 + (512 * 1024 + 1024) + position + 2 * 1024 + layers(1024, 24)
    assert count("wav2vec2_large") == closed == theirs - 1024


def test_cpc():
    convolutions = 512 * 10 + 512 * 512 * (8 + 4 + 4 + 4) + 5 * 512 + 5 * 2 * 512
    recurrent = 3 * (256 * 256 + 256 * 256 + 2 * 256)
    assert count("cpc") == convolutions + 2 * 512 + (512 * 256 + 256) + recurrent == 5_782_784


def test_bert_base(transformers):
    ours = count("bert_base", frontend__vocab_size=30522, frontend__max_tokens=512)
    theirs = meta(lambda: transformers.BertModel(transformers.BertConfig(), add_pooling_layer=False))
    assert ours == theirs == (30522 + 512 + 2) * 768 + 2 * 768 + layers(768, 12) == 108_891_648


def test_bert_base_with_its_pooler_and_its_heads(transformers):
    changes = {"frontend__vocab_size": 30522, "frontend__max_tokens": 512}
    assert count("bert_base", **changes, pool="pooler") == meta(
        lambda: transformers.BertModel(transformers.BertConfig())
    )
    assert count("bert_base", **changes, pool="pooler") == 109_482_240
    node = config("bert_base")
    node["frontend"] |= {"vocab_size": 30522, "max_tokens": 512}
    with torch.device("meta"):
        encoder, data = make(node), SimpleNamespace(vocab_size=30522)
        masked = BERT(encoder, data, TokenMask())
        pairs = BERTNextSentence(encoder, data, TokenMask(), NextSentence())
    whole = meta(lambda: transformers.BertForMaskedLM(transformers.BertConfig()))
    assert weights(encoder) + weights(masked) == whole == 109_514_298
    whole = meta(lambda: transformers.BertForPreTraining(transformers.BertConfig()))
    assert weights(encoder) + weights(pairs) == whole


def test_roberta_base(transformers):
    """Two rows of their positions are never read: they count from pad_token_id + 1, and here places count from 0."""
    changes = {"frontend__vocab_size": 50265, "frontend__max_tokens": 512}
    roberta = transformers.RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    theirs = meta(lambda: transformers.RobertaModel(roberta))
    assert count("roberta_base", **changes, pool="pooler") + 2 * 768 == theirs == 124_645_632


def test_albert_base(transformers):
    ours = count("albert_base", frontend__vocab_size=30000, frontend__max_tokens=512)
    config = transformers.AlbertConfig(hidden_size=768, num_attention_heads=12, intermediate_size=3072)
    pooler = 768 * 768 + 768
    assert ours + pooler == meta(lambda: transformers.AlbertModel(config)) == 11_683_584


def test_electra_small(transformers):
    ours = count("electra_small", frontend__vocab_size=30522, frontend__max_tokens=512)
    config = transformers.ElectraConfig(hidden_size=256, num_attention_heads=4, intermediate_size=1024)
    assert ours == meta(lambda: transformers.ElectraModel(config))


def test_modernbert_base(transformers):
    ours = count("modernbert_base", frontend__vocab_size=50368, frontend__max_tokens=8192)
    layer = 4 * 768 * 768 + 3 * 768 * 1152 + 2 * 768
    closed = 50368 * 768 + 768 + 22 * layer - 768 + 768  # the first layer norms no input; a norm ends it
    assert ours == closed == meta(lambda: transformers.ModernBertModel(transformers.ModernBertConfig())) == 149_014_272


def test_gpt2(transformers):
    ours = count("gpt2", frontend__vocab_size=50257, frontend__max_tokens=1024)
    theirs = meta(lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config()))
    assert ours == theirs == (50257 + 1024) * 768 + layers(768, 12) + 2 * 768 == 124_439_808


def test_vit_base(transformers):
    changes = {"frontend__size": 224, "frontend__mean": [0.5] * 3, "frontend__std": [0.5] * 3}
    theirs = meta(lambda: transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False))
    closed = (16 * 16 * 3 * 768 + 768) + 768 + 2 * 768 + layers(768, 12)
    assert count("vit_base", **changes) == closed
    learned = count("vit_base", **changes, frontend__position="learned")
    assert learned == closed + 197 * 768 == theirs == 85_798_656


def test_resnets():
    def trunk(make_theirs):
        net = make_theirs(weights=None)
        net.fc = torch.nn.Identity()
        return net

    eighteen = meta(lambda: trunk(torchvision.models.resnet18))
    assert eighteen == 11_689_512 - 513_000
    assert count("resnet18") == eighteen - (7 * 7 - 3 * 3) * 3 * 64 == 11_168_832  # the stem for small images
    assert count("resnet18", stem=[7, 2], pool=True) == eighteen
    assert count("resnet50") == meta(lambda: trunk(torchvision.models.resnet50)) == 25_557_032 - 2_049_000
