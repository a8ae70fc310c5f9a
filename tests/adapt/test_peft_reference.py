"""LoRA, prefix tuning and prompt tuning against peft's on transformers' BERT, with copied weights."""

import sys
from pathlib import Path

import pytest
import torch
from test_methods import off_the_start

from sslzoo.adapt.lora import LoRA
from sslzoo.adapt.prefix import PrefixTuning, flatten
from sslzoo.adapt.soft_prompt import PromptTuning
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer

sys.path.insert(0, str(Path(__file__).parents[1] / "encoders"))
import copies

transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
IDS = torch.randint(5, 40, (2, 9), generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([9, 6])
DIM, DEPTH, HEADS, PROMPT = 16, 3, 2, 4


def berts():
    """transformers' and the same of ours."""
    torch.manual_seed(0)
    size = {"vocab_size": 40, "hidden_size": DIM, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS}
    config = transformers.BertConfig(**size, intermediate_size=24, max_position_embeddings=20, initializer_range=0.3)
    theirs = transformers.BertModel(config, add_pooling_layer=False).eval()
    trunk = Transformer(DIM, DEPTH, HEADS, hidden=24, norm="post", eps=1e-12)
    ours = SequenceEncoder(WordPieces(DIM, vocab_size=40, max_tokens=20), trunk)
    copies.bert_model(ours, theirs)
    return ours.eval(), theirs


@torch.no_grad()
def assert_alike(ours, theirs, skipped: int = 0) -> None:
    """skipped: tokens of the prompt, which theirs has among its states."""
    mask = (torch.arange(IDS.shape[1]) < LENGTHS[:, None]).long()
    expected = theirs.eval()(input_ids=IDS, attention_mask=mask).last_hidden_state[:, skipped:]
    found, plain = ours.eval()(IDS, LENGTHS).last, berts()[0](IDS, LENGTHS).last
    for row, length in enumerate(LENGTHS.tolist()):
        assert torch.allclose(found[row, :length], expected[row, :length], atol=1e-5, rtol=0)
    assert not torch.allclose(found, plain, atol=1e-2)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (["query", "value"], ["query", "value"]),
        (["key", "out", "up", "down"], ["key", "attention.output.dense", "intermediate.dense", r"output.dense"]),
    ],
    ids=["attention", "all else"],
)
def test_lora(ours, theirs):
    encoder, model = berts()
    model = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=6, target_modules=theirs))
    encoder = off_the_start(LoRA(r=3, alpha=6, targets=ours)(encoder))
    names = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value"}
    names |= {"out": "attention.output.dense", "up": "intermediate.dense", "down": "output.dense"}
    for block, layer in zip(encoder.trunk.blocks, model.base_model.model.encoder.layer, strict=True):
        for name in ours:
            mine = getattr(block.attention, name, None) or getattr(block, name)
            other = layer.get_submodule(names[name])
            with torch.no_grad():
                other.lora_A["default"].weight.copy_(mine.lora_a)
                other.lora_B["default"].weight.copy_(mine.lora_b)
    assert_alike(encoder, model)
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert learned == sum(p.numel() for p in encoder.parameters() if p.requires_grad)


@pytest.mark.parametrize("flat", [False, True], ids=["reparametrised", "flattened"])
def test_prefix_tuning(flat):
    encoder, model = berts()
    task = {"task_type": "FEATURE_EXTRACTION", "num_virtual_tokens": PROMPT}
    config = peft.PrefixTuningConfig(**task, prefix_projection=True, encoder_hidden_size=6)
    model = peft.get_peft_model(model, config)
    encoder = off_the_start(PrefixTuning(length=PROMPT, hidden=6)(encoder))
    prefix, other = encoder.trunk.prefix, model.prompt_encoder["default"]
    with torch.no_grad():
        other.embedding.weight.copy_(prefix.states)
        for mine, linear in ((prefix.inner, other.transform[0]), (prefix.outer, other.transform[2])):
            linear.load_state_dict(mine.state_dict())
        # in theirs a cache of keys counts as places before the text; here a prefix takes none
        places = model.get_base_model().embeddings.position_embeddings.weight
        places.copy_(places.roll(PROMPT, 0))
    assert_alike(flatten(encoder) if flat else encoder, model)


def test_prompt_tuning():
    encoder, model = berts()
    config = peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=PROMPT)
    model = peft.get_peft_model(model, config)
    encoder = off_the_start(PromptTuning(length=PROMPT)(encoder))
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.copy_(encoder.prompt.embeddings)
    assert_alike(encoder, model, skipped=PROMPT)
