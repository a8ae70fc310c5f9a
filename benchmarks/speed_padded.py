"""Features of a padded batch of ragged speech: sslzoo's wav2vec 2.0 base beside transformers' Wav2Vec2Model.

Both have the same weights and get the same batch, standardised an utterance beforehand; theirs gets the attention
mask. Their group norm takes padding in, as ours does not, so the features are compared on the longest row, and the
others with theirs of each row alone.

    python benchmarks/speed_padded.py [--rounds 5] [--out benchmarks/results/speed_padded.json]
"""

import speed
import torch
import transformers

from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.speech import Waveform
from sslzoo.encoders.transformer import ConvPosition, Transformer
from sslzoo.nn.masked import standardize, valid_mask

SECONDS = [1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5]


def models(dim: int, depth: int, heads: int, channels: int, kernel: int):
    """Ours and theirs, with the same weights."""
    torch.manual_seed(0)
    theirs = transformers.Wav2Vec2Model(
        transformers.Wav2Vec2Config(
            hidden_size=dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            intermediate_size=4 * dim,
            conv_dim=[channels] * 7,
            num_conv_pos_embeddings=kernel,
        )
    ).eval()
    layers = [[channels, k, s] for k, s in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True)]
    frontend = Waveform(dim, layers=layers)
    trunk = Transformer(dim, depth, heads, norm="post", position=ConvPosition(dim, kernel, 16))
    pairs = {
        frontend.norm: theirs.feature_projection.layer_norm,
        frontend.linear: theirs.feature_projection.projection,
        trunk.position.conv: theirs.encoder.pos_conv_embed.conv,
        trunk.norm: theirs.encoder.layer_norm,
        frontend.layers[0].norm: theirs.feature_extractor.conv_layers[0].layer_norm,
    }
    for layer, other in zip(frontend.layers, theirs.feature_extractor.conv_layers, strict=True):
        pairs[layer.conv] = other.conv
    for layer, other in zip(trunk.blocks, theirs.encoder.layers, strict=True):
        pairs |= {
            layer.attention.query: other.attention.q_proj,
            layer.attention.key: other.attention.k_proj,
            layer.attention.value: other.attention.v_proj,
            layer.attention.out: other.attention.out_proj,
            layer.attention_norm: other.layer_norm,
            layer.up: other.feed_forward.intermediate_dense,
            layer.down: other.feed_forward.output_dense,
            layer.mlp_norm: other.final_layer_norm,
        }
    for ours, other in pairs.items():
        ours.load_state_dict(other.state_dict())
    return SequenceEncoder(frontend, trunk).eval(), theirs


@torch.no_grad()
def main() -> None:
    said = speed.arguments(__doc__, "speed_padded", 5)
    lengths = (torch.tensor(SECONDS) * 16000).long()
    waves = 0.1 * torch.randn(len(lengths), int(lengths.max()), generator=torch.Generator().manual_seed(1))
    waves = standardize(waves[..., None], lengths)[..., 0]
    mask = valid_mask(lengths, waves.shape[1]).long()
    sizes = {"wav2vec2_small's sizes": (192, 4, 4, 128, 64), "wav2vec2_base": (768, 12, 12, 512, 128)}
    cases = {}
    for name, size in sizes.items():
        encoder, theirs = models(*size)
        ours, gaps = encoder(waves, lengths), []
        for row, n in enumerate(lengths.tolist()):
            alone = theirs(waves[row : row + 1, :n]).last_hidden_state[0]
            gaps.append(float((ours.last[row, : len(alone)] - alone).abs().max()))
        assert max(gaps) < 1e-4, gaps
        ways = {
            speed.OURS: lambda encoder=encoder: encoder(waves, lengths),
            "transformers, the batch": lambda theirs=theirs: theirs(waves, attention_mask=mask),
            "transformers, one by one": lambda theirs=theirs: [
                theirs(waves[row : row + 1, :n]) for row, n in enumerate(lengths.tolist())
            ],
        }
        cases[name] = {"ways": speed.by_turns(ways, said.rounds), "largest_gap": max(gaps)}
        speed.show(name, cases[name])
    speed.store(said.out, {"seconds_of_audio": SECONDS}, cases)


if __name__ == "__main__":
    main()
