"""A training step of MAE: sslzoo's beside transformers' ViTMAEForPreTraining, at the sizes of conf/encoder/vit_small.

Both have the same weights and mask the same patches of the same 32-pixel images: 64 patches of 4, an encoder of
6 layers of 128, a decoder of 2 layers of 128; forward and backward. Their losses are compared before anything is timed.
Then ours with its blocks compiled, as by trainer.compile=true, beside theirs as it was.

    python benchmarks/speed_mae.py [--rounds 15] [--out benchmarks/results/speed_mae.json]
"""

import copy
from types import SimpleNamespace

import speed
import torch
import transformers

from sslzoo import rng
from sslzoo.data.base import Batch
from sslzoo.encoders.image import Patches
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.transformer import Transformer
from sslzoo.objectives.mae import MAE
from sslzoo.train.blocks import compile_blocks

SIZE, PATCH, DIM, DEPTH, HEADS, DECODER_DEPTH, ROWS = 32, 4, 128, 6, 4, 2, 64


@torch.no_grad()
def models():
    """Ours and theirs, with the same weights."""
    torch.manual_seed(0)
    config = transformers.ViTMAEConfig(
        hidden_size=DIM,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=4 * DIM,
        image_size=SIZE,
        patch_size=PATCH,
        decoder_hidden_size=DIM,
        decoder_num_hidden_layers=DECODER_DEPTH,
        decoder_num_attention_heads=HEADS,
        decoder_intermediate_size=4 * DIM,
        layer_norm_eps=1e-6,
        norm_pix_loss=True,
        mask_ratio=0.75,
    )
    theirs = transformers.ViTMAEForPreTraining(config).train()
    frontend = Patches(DIM, SIZE, PATCH, mean=[0.0] * 3, std=[1.0] * 3)
    encoder = SequenceEncoder(frontend, Transformer(DIM, DEPTH, HEADS, eps=1e-6), pool="first")
    objective = MAE(encoder, SimpleNamespace(size=SIZE), Transformer(DIM, DECODER_DEPTH, HEADS, eps=1e-6))
    embeddings, decoder = theirs.vit.embeddings, theirs.decoder
    conv = embeddings.patch_embeddings.projection
    frontend.linear.weight.copy_(conv.weight.permute(0, 2, 3, 1).flatten(1))
    frontend.linear.bias.copy_(conv.bias)
    frontend.cls_token.copy_(embeddings.cls_token[0, 0])
    frontend.position_embedding.copy_(embeddings.position_embeddings[0])
    objective.mask_token.copy_(decoder.mask_token[0, 0])
    objective.decoder_pos_embed.copy_(decoder.decoder_pos_embed[0])
    pairs = {
        encoder.trunk.norm: theirs.vit.layernorm,
        objective.decoder_embed: decoder.decoder_embed,
        objective.decoder_pred: decoder.decoder_pred,
        objective.decoder.norm: decoder.decoder_norm,
    }
    layers = [*encoder.trunk.blocks, *objective.decoder.blocks]
    for layer, other in zip(layers, [*theirs.vit.layers, *decoder.decoder_layers], strict=True):
        pairs |= {
            layer.attention.query: other.attention.q_proj,
            layer.attention.key: other.attention.k_proj,
            layer.attention.value: other.attention.v_proj,
            layer.attention.out: other.attention.o_proj,
            layer.attention_norm: other.layernorm_before,
            layer.up: other.mlp.fc1,
            layer.down: other.mlp.fc2,
            layer.mlp_norm: other.layernorm_after,
        }
    for ours, other in pairs.items():
        ours.load_state_dict(other.state_dict())
    return encoder, objective, theirs


def main() -> None:
    said = speed.arguments(__doc__, "speed_mae", 15)
    encoder, objective, theirs = models()
    images = torch.rand(ROWS, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    seeds = torch.tensor([rng.derive_seed(0, i) for i in range(ROWS)])
    batch = Batch(images, torch.ones(ROWS, dtype=torch.long), seeds, torch.arange(ROWS))

    def step(module, loss):
        for p in module.parameters():
            p.grad = None
        value = loss()
        value.backward()
        return value.detach()

    both = torch.nn.ModuleList([encoder, objective])
    noise = rng.uniform(seeds, "mask", (SIZE // PATCH) ** 2)
    ways = {
        speed.OURS: lambda: step(both, lambda: objective(encoder, batch, 0).value),
        "transformers ViTMAEForPreTraining": lambda: step(theirs, lambda: theirs(images).loss),
    }
    gap = float((ways[speed.OURS]() - step(theirs, lambda: theirs(images, noise=noise).loss)).abs())
    ours, others = encoder.trunk.blocks[0].up.weight.grad, theirs.vit.layers[0].mlp.fc1.weight.grad
    assert gap < 1e-5 and (ours - others).abs().max() < 1e-4 * others.abs().max(), gap
    compiled = copy.deepcopy(both)
    compile_blocks(compiled, ragged=False)
    peer = "transformers ViTMAEForPreTraining"
    compiled_ways = {
        speed.OURS: lambda: step(compiled, lambda: compiled[1](compiled[0], batch, 0).value),
        f"{peer}, not compiled": ways[peer],
    }
    cases = {}
    for also, each in {"": ways, ", blocks compiled": compiled_ways}.items():
        case = f"{ROWS} images of {SIZE} pixels{also}"
        cases[case] = found = {"ways": speed.by_turns(each, said.rounds), "gap": gap}
        speed.show(case, found)
    sizes = {"patch": PATCH, "dim": DIM, "depth": DEPTH, "heads": HEADS, "decoder_depth": DECODER_DEPTH}
    speed.store(said.out, {**sizes, "step": "forward, backward"}, cases)


if __name__ == "__main__":
    main()
