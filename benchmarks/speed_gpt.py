"""A training step of GPT with a vocabulary of 50,257: sslzoo's beside transformers' GPT2LMHeadModel.

Both have the same weights, 4 layers of 256 with 4 heads, and take the same batch: forward, backward, fused AdamW. Their
losses and gradients are compared before anything is timed.

    python benchmarks/speed_gpt.py [--rounds 9] [--out benchmarks/results/speed_gpt.json]
"""

from types import SimpleNamespace

import speed
import torch
import transformers

from sslzoo.data.base import Batch
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.nn.masked import valid_mask
from sslzoo.objectives.gpt import GPT

DIM, DEPTH, HEADS, VOCAB, TOKENS = 256, 4, 4, 50257, 256
ROWS = 4


def models():
    """Ours and theirs, with the same weights."""
    torch.manual_seed(0)
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    size = {"vocab_size": VOCAB, "n_embd": DIM, "n_layer": DEPTH, "n_head": HEADS, "n_positions": TOKENS}
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**size, **drop))
    trunk = Transformer(DIM, DEPTH, HEADS, norm="pre", activation="gelu_tanh", causal=True, scale_residuals=True)
    encoder = SequenceEncoder(WordPieces(DIM, VOCAB, TOKENS, segments=0), trunk)
    with torch.no_grad():
        model = theirs.transformer
        encoder.frontend.token_embedding.weight.copy_(model.wte.weight)
        encoder.frontend.position_embedding.weight.copy_(model.wpe.weight)
        trunk.norm.load_state_dict(model.ln_f.state_dict())
        for layer, block in zip(trunk.blocks, model.h, strict=True):
            attention = (layer.attention.query, layer.attention.key, layer.attention.value)
            for linear, weight in zip(attention, block.attn.c_attn.weight.split(DIM, 1), strict=True):
                linear.weight.copy_(weight.t())
            pairs = {layer.attention.out: block.attn.c_proj, layer.up: block.mlp.c_fc, layer.down: block.mlp.c_proj}
            for linear, conv in pairs.items():
                linear.weight.copy_(conv.weight.t())
    objective = GPT(encoder, SimpleNamespace(vocab_size=VOCAB, describe=str))
    return encoder.train(), objective, theirs.train()


def batch(lengths: list[int]) -> Batch:
    lengths = torch.tensor(lengths)
    ids = torch.randint(5, VOCAB, (len(lengths), TOKENS), generator=torch.Generator().manual_seed(1))
    return Batch(ids * valid_mask(lengths, TOKENS), lengths, lengths, lengths)


def main() -> None:
    said = speed.arguments(__doc__, "speed_gpt", 9)
    encoder, objective, theirs = models()
    ours_optim, their_optim = (torch.optim.AdamW(m.parameters(), lr=1e-4, fused=True) for m in (encoder, theirs))

    def our_loss(batch):
        return objective(encoder, batch, 0).value

    def their_loss(batch):
        there = valid_mask(batch.lengths, TOKENS)
        mask = None if bool(there.all()) else there.long()
        labels = batch.inputs.masked_fill(~there, -100)
        return theirs(batch.inputs, attention_mask=mask, labels=labels, use_cache=False).loss

    def step(loss, optim, batch) -> float:
        value = loss(batch)
        value.backward()
        optim.step()
        optim.zero_grad()
        return float(value.detach())

    ragged = torch.linspace(TOKENS // 4, TOKENS, ROWS).long().tolist()
    cases = {}
    for name, given in {"full": batch([TOKENS] * ROWS), "padded": batch(ragged)}.items():
        a, b = our_loss(given), their_loss(given)
        a.backward(), b.backward()
        table, wte = encoder.frontend.token_embedding.weight.grad, theirs.transformer.wte.weight.grad
        gap = {"loss": float((a - b).detach().abs()), "gradient": float((table - wte).abs().max() / wte.abs().max())}
        assert gap["loss"] < 1e-4 and gap["gradient"] < 1e-4, gap
        del a, b, table, wte
        ours_optim.zero_grad(), their_optim.zero_grad()
        ways = {
            speed.OURS: lambda given=given: step(our_loss, ours_optim, given),
            "transformers GPT2LMHeadModel": lambda given=given: step(their_loss, their_optim, given),
        }
        found = speed.by_turns(ways, said.rounds)
        case = f"{ROWS} rows of {TOKENS}, {name}"
        cases[case] = {"ways": found, "gap": gap, "lengths": given.lengths.tolist()}
        speed.show(case, cases[case])
    about = {"dim": DIM, "depth": DEPTH, "heads": HEADS, "vocab_size": VOCAB, "step": "forward, backward, fused AdamW"}
    speed.store(said.out, about, cases)


if __name__ == "__main__":
    main()
