"""ModernBERT, RoFormer, GPT-NeoX, Llama and Mistral against transformers, with its random weights copied: every hidden
state of padded, ragged batches."""

import copies
import pytest
import torch
from conftest import compose
from copies import CLOSE, assert_hidden, batch_of, hidden_of, shaken, take
from test_bert_and_vit_reference import sentences

from sslzoo.build import make
from sslzoo.data.base import PAD
from sslzoo.encoders.kv_cache import KVCache
from sslzoo.encoders.rotary import RotaryPosition
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.nn.masked import valid_mask

transformers = pytest.importorskip("transformers")
SIZE = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


def ragged(*sizes: int):
    g = torch.Generator().manual_seed(1)
    return batch_of([torch.randint(1, 50, (n,), generator=g) for n in sizes])


def asked(theirs, batch, layers, norm, **more):
    inside = valid_mask(batch.lengths, batch.inputs.shape[1]).long()
    with torch.no_grad():
        return hidden_of(layers, norm, lambda: theirs(batch.inputs, attention_mask=inside, **more))[1]


def ours(encoder, batch):
    with torch.no_grad():
        return encoder.eval()(batch.inputs, batch.lengths).hidden


@pytest.mark.parametrize("sizes", [(21, 3, 40, 1), (40, 40), (200, 90, 160)], ids=["short", "full", "rows apart"])
@pytest.mark.parametrize("name", ["modernbert_base", "modernbert_small"])
def test_modernbert(name, sizes):
    """As it is composed, narrowed, with windows that the texts are longer than."""
    torch.manual_seed(0)
    narrow = ["dim=16", "heads=2", "hidden=24", "depth=5", "window=8"]
    node = compose(
        "objective=bert", "data=tiny_text", f"encoder={name}", *(f"encoder.trunk.{word}" for word in narrow)
    )["encoder"]
    node["frontend"] |= {"vocab_size": 50, "max_tokens": 200}
    encoder = make(node)
    config = transformers.ModernBertConfig(
        **SIZE, num_hidden_layers=5, local_attention=8, max_position_embeddings=200, pad_token_id=PAD
    )
    theirs = shaken(transformers.ModernBertModel(config)).eval()
    copies.modernbert_model(encoder, theirs)
    batch = ragged(*sizes)
    assert_hidden(ours(encoder, batch), asked(theirs, batch, theirs.layers, theirs.final_norm), batch.lengths)


def test_the_window_matters():
    """The test above can fail: of texts that are longer than it, a window changes what is made."""
    torch.manual_seed(0)
    trunk = Transformer(16, 2, 2, window=4, global_every=0, init_std=0.3).eval()
    x, lengths = torch.randn(1, 12, 16), torch.tensor([12])
    y = x.clone()
    y[:, 11] = torch.randn(16)
    moved = (trunk(x, lengths)[1] - trunk(y, lengths)[1]).abs().sum(-1)[0] > 1e-6
    assert moved.tolist() == [False] * 9 + [True] * 3, "one layer reaches two tokens"
    moved = (trunk(x, lengths)[2] - trunk(y, lengths)[2]).abs().sum(-1)[0] > 1e-6
    assert moved.tolist() == [False] * 7 + [True] * 5, "two layers reach four"


def test_roformer():
    """Its code turns the features 2 i and 2 i + 1 of a head, this the features i and i + R / 2."""
    torch.manual_seed(0)
    config = transformers.RoFormerConfig(
        **SIZE, num_hidden_layers=3, max_position_embeddings=20, pad_token_id=PAD, type_vocab_size=2, embedding_size=16
    )
    theirs = shaken(transformers.RoFormerModel(config)).eval()
    table = theirs.encoder.embed_positions
    table.weight.data = table.create_weight()  # a table of sines that is no weight, but is kept as one
    trunk = Transformer(16, 3, 2, hidden=24, norm="post", eps=1e-12, position=RotaryPosition())
    encoder = SequenceEncoder(WordPieces(16, 50, 20, segments=2, position="none"), trunk)
    copies.roformer_model(encoder, theirs)
    batch, segments = sentences()
    expected = asked(theirs, batch, theirs.encoder.layer, None, token_type_ids=segments)
    assert_hidden(ours(encoder, batch), expected, batch.lengths)


@pytest.mark.parametrize("sizes", [(20, 20), (12, 2, 20)], ids=["full", "padded"])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_gpt_neox(sizes, fraction):
    """Causal, with a part of each head turned."""
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        **SIZE,
        num_hidden_layers=3,
        use_parallel_residual=False,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": fraction},
    )
    theirs = shaken(transformers.GPTNeoXModel(config)).eval()
    trunk = Transformer(16, 3, 2, hidden=24, causal=True, position=RotaryPosition(500.0, fraction=fraction))
    encoder = SequenceEncoder(WordPieces(16, 50, 20, segments=0, position="none"), trunk)
    copies.gpt_neox_model(encoder, theirs)
    batch = ragged(*sizes)
    assert_hidden(ours(encoder, batch), asked(theirs, batch, theirs.layers, theirs.final_layer_norm), batch.lengths)


@pytest.mark.parametrize("window", [None, 6])
def test_llama_and_mistral(window):
    """RMS norm, SwiGLU, no bias; Mistral's layers look at themselves and the 3 tokens before, ours at window / 2. From
    a cache, in parts, every token has what it has in the whole."""
    torch.manual_seed(0)
    more = {"num_hidden_layers": 3, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 20}
    if window is None:
        theirs = transformers.LlamaModel(transformers.LlamaConfig(**SIZE, **more))
    else:
        theirs = transformers.MistralModel(transformers.MistralConfig(**SIZE, **more, sliding_window=window // 2 + 1))
    theirs = shaken(theirs).eval()
    trunk = Transformer(
        *(16, 3, 2, 24),
        activation="swiglu",
        norm_type="rms",
        bias=False,
        causal=True,
        position=RotaryPosition(),
        window=window,
        global_every=0,
    )
    encoder = SequenceEncoder(WordPieces(16, 50, 20, segments=0, position="none"), trunk)
    copies.llama_model(encoder, theirs)
    batch = ragged(20, 7, 13)
    found = ours(encoder, batch)
    assert_hidden(found, asked(theirs, batch, theirs.layers, theirs.norm), batch.lengths)

    parts, cache = [], KVCache()
    for part in batch.inputs[:1].split([1, 8, 1, 10], dim=1):
        with torch.no_grad():
            encoded = encoder(part, torch.tensor([part.shape[1]]), cache)
        cache = encoded.cache
        parts.append(encoded.hidden)
    for number, whole in enumerate(found):
        torch.testing.assert_close(torch.cat([part[number] for part in parts], 1), whole[:1], **CLOSE)


def test_rms_norm_follows_the_paper():
    """x / rms(x) * g, with no mean taken away."""
    trunk, x = Transformer(16, 1, 2, norm_type="rms", bias=False), torch.randn(3, 16)
    norm = trunk.blocks[0].mlp_norm
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), expected)
    assert not any("bias" in name for name, _ in trunk.named_parameters())
    other = Transformer(16, 1, 2, norm_type="layer", bias=False)
    take(norm, other.blocks[0].mlp_norm)  # as many weights
