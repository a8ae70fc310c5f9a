"""Other libraries' models beside ours: their weights put in ours, and what goes through their layers."""

import torch

from sslzoo import rng
from sslzoo.data.base import Batch
from sslzoo.data.loader import pad

CLOSE = {"atol": 1e-5, "rtol": 0}


def take(module, other) -> None:
    """All of a module's weights from one with the same names."""
    module.load_state_dict(other.state_dict())


@torch.no_grad()
def wav2vec2_model(encoder, theirs) -> None:
    """SequenceEncoder(Waveform, Transformer) from transformers' Wav2Vec2Model."""
    frontend, trunk = encoder.frontend, encoder.trunk
    for layer, other in zip(frontend.layers, theirs.feature_extractor.conv_layers, strict=True):
        take(layer.conv, other.conv)
        if hasattr(other, "layer_norm"):
            take(layer.norm, other.layer_norm)
    take(frontend.norm, theirs.feature_projection.layer_norm)
    take(frontend.linear, theirs.feature_projection.projection)
    take(trunk.position.conv, theirs.encoder.pos_conv_embed.conv)
    take(trunk.norm, theirs.encoder.layer_norm)
    for layer, other in zip(trunk.blocks, theirs.encoder.layers, strict=True):
        attention = other.attention
        take(layer.attention.query, attention.q_proj)
        take(layer.attention.key, attention.k_proj)
        take(layer.attention.value, attention.v_proj)
        take(layer.attention.out, attention.out_proj)
        take(layer.attention_norm, other.layer_norm)
        take(layer.up, other.feed_forward.intermediate_dense)
        take(layer.down, other.feed_forward.output_dense)
        take(layer.mlp_norm, other.final_layer_norm)


@torch.no_grad()
def wav2vec2_quantizer(quantizer, theirs) -> None:
    take(quantizer.logits, theirs.weight_proj)
    quantizer.codes.copy_(theirs.codevectors.view_as(quantizer.codes))


@torch.no_grad()
def wav2vec2_pretraining(encoder, objective, theirs) -> None:
    wav2vec2_model(encoder, theirs.wav2vec2)
    wav2vec2_quantizer(objective.quantizer, theirs.quantizer)
    take(objective.project_context, theirs.project_hid)
    take(objective.project_code, theirs.project_q)
    objective.mask_token.copy_(theirs.wav2vec2.masked_spec_embed)


@torch.no_grad()
def torchaudio_model(encoder, theirs) -> None:
    """SequenceEncoder(Waveform, Transformer) from torchaudio's Wav2Vec2Model."""
    frontend, trunk = encoder.frontend, encoder.trunk
    for layer, other in zip(frontend.layers, theirs.feature_extractor.conv_layers, strict=True):
        take(layer.conv, other.conv)
        if other.layer_norm is not None:
            take(layer.norm, other.layer_norm)
    take(frontend.norm, theirs.encoder.feature_projection.layer_norm)
    take(frontend.linear, theirs.encoder.feature_projection.projection)
    their_trunk = theirs.encoder.transformer
    take(trunk.position.conv, their_trunk.pos_conv_embed.conv)
    take(trunk.norm, their_trunk.layer_norm)
    for layer, other in zip(trunk.blocks, their_trunk.layers, strict=True):
        take(layer.attention.query, other.attention.q_proj)
        take(layer.attention.key, other.attention.k_proj)
        take(layer.attention.value, other.attention.v_proj)
        take(layer.attention.out, other.attention.out_proj)
        take(layer.attention_norm, other.layer_norm)
        take(layer.up, other.feed_forward.intermediate_dense)
        take(layer.down, other.feed_forward.output_dense)
        take(layer.mlp_norm, other.final_layer_norm)


@torch.no_grad()
def hubert_pretraining(encoder, objective, theirs) -> None:
    torchaudio_model(encoder, theirs.wav2vec2)
    take(objective.project, theirs.logit_generator.final_proj)
    objective.embeddings.copy_(theirs.logit_generator.label_embeddings)
    objective.mask_token.copy_(theirs.mask_generator.mask_embedding)


@torch.no_grad()
def bert_model(encoder, theirs) -> None:
    """SequenceEncoder(WordPieces, Transformer) from transformers' BertModel."""
    frontend, trunk, embeddings = encoder.frontend, encoder.trunk, theirs.embeddings
    take(frontend.token_embedding, embeddings.word_embeddings)
    take(frontend.position_embedding, embeddings.position_embeddings)
    take(frontend.segment_embedding, embeddings.token_type_embeddings)
    take(trunk.norm if frontend.norm is None else frontend.norm, embeddings.LayerNorm)
    if frontend.up is not None:
        take(frontend.up, theirs.embeddings_project)
    bert_layers(trunk, theirs.encoder.layer)


@torch.no_grad()
def bert_layers(trunk, layers) -> None:
    """Transformer from the layers of transformers' BertModel or ElectraModel."""
    for layer, other in zip(trunk.blocks, layers, strict=True):
        attention = other.attention.self
        take(layer.attention.query, attention.query)
        take(layer.attention.key, attention.key)
        take(layer.attention.value, attention.value)
        take(layer.attention.out, other.attention.output.dense)
        take(layer.attention_norm, other.attention.output.LayerNorm)
        take(layer.up, other.intermediate.dense)
        take(layer.down, other.output.dense)
        take(layer.mlp_norm, other.output.LayerNorm)


@torch.no_grad()
def bert_head(objective, theirs) -> None:
    predictions = theirs.cls.predictions
    take(objective.dense, predictions.transform.dense)
    take(objective.norm, predictions.transform.LayerNorm)
    objective.bias.copy_(predictions.bias)


@torch.no_grad()
def electra(encoder, objective, generator, discriminator) -> None:
    """From transformers' ElectraForMaskedLM and ElectraForPreTraining."""
    bert_model(encoder, discriminator.electra)
    take(objective.dense, discriminator.discriminator_predictions.dense)
    take(objective.out, discriminator.discriminator_predictions.dense_prediction)
    take(objective.generator_embed, generator.electra.embeddings_project)
    bert_layers(objective.generator, generator.electra.encoder.layer)
    take(objective.generator_dense, generator.generator_predictions.dense)
    take(objective.generator_norm, generator.generator_predictions.LayerNorm)
    objective.generator_bias.copy_(generator.generator_lm_head.bias)


@torch.no_grad()
def albert_model(encoder, theirs) -> None:
    """SequenceEncoder(WordPieces, Transformer), whose layers are one, from transformers' AlbertModel."""
    frontend, trunk, embeddings = encoder.frontend, encoder.trunk, theirs.embeddings
    take(frontend.token_embedding, embeddings.word_embeddings)
    take(frontend.position_embedding, embeddings.position_embeddings)
    take(frontend.segment_embedding, embeddings.token_type_embeddings)
    take(frontend.norm, embeddings.LayerNorm)
    take(frontend.up, theirs.encoder.embedding_hidden_mapping_in)
    [layer], [[other]] = trunk.blocks, [group.albert_layers for group in theirs.encoder.albert_layer_groups]
    take(layer.attention.query, other.attention.query)
    take(layer.attention.key, other.attention.key)
    take(layer.attention.value, other.attention.value)
    take(layer.attention.out, other.attention.dense)
    take(layer.attention_norm, other.attention.LayerNorm)
    take(layer.up, other.ffn)
    take(layer.down, other.ffn_output)
    take(layer.mlp_norm, other.full_layer_layer_norm)


@torch.no_grad()
def gpt2_model(encoder, theirs) -> None:
    """SequenceEncoder(WordPieces, Transformer) from transformers' GPT2Model, whose Conv1D is a Linear transposed."""

    def turned(linear, weight, bias) -> None:
        linear.weight.copy_(weight.T)
        linear.bias.copy_(bias)

    frontend, trunk = encoder.frontend, encoder.trunk
    take(frontend.token_embedding, theirs.wte)
    take(frontend.position_embedding, theirs.wpe)
    take(trunk.norm, theirs.ln_f)
    for layer, other in zip(trunk.blocks, theirs.h, strict=True):
        fused = zip(other.attn.c_attn.weight.chunk(3, dim=1), other.attn.c_attn.bias.chunk(3), strict=True)
        for name, (weight, bias) in zip(("query", "key", "value"), fused, strict=True):
            turned(getattr(layer.attention, name), weight, bias)
        turned(layer.attention.out, other.attn.c_proj.weight, other.attn.c_proj.bias)
        turned(layer.up, other.mlp.c_fc.weight, other.mlp.c_fc.bias)
        turned(layer.down, other.mlp.c_proj.weight, other.mlp.c_proj.bias)
        take(layer.attention_norm, other.ln_1)
        take(layer.mlp_norm, other.ln_2)


@torch.no_grad()
def modernbert_model(encoder, theirs) -> None:
    """SequenceEncoder(WordPieces, Transformer) from transformers' ModernBertModel."""
    frontend, trunk = encoder.frontend, encoder.trunk
    take(frontend.token_embedding, theirs.embeddings.tok_embeddings)
    take(frontend.norm, theirs.embeddings.norm)
    take(trunk.norm, theirs.final_norm)
    for layer, other in zip(trunk.blocks, theirs.layers, strict=True):
        take(layer.attention_norm, other.attn_norm)
        attention = layer.attention
        for linear, weight in zip(
            (attention.query, attention.key, attention.value), other.attn.Wqkv.weight.chunk(3), strict=True
        ):
            linear.weight.copy_(weight)
        take(attention.out, other.attn.Wo)
        take(layer.mlp_norm, other.mlp_norm)
        for linear, weight in zip((layer.gate, layer.up), other.mlp.Wi.weight.chunk(2), strict=True):
            linear.weight.copy_(weight)
        take(layer.down, other.mlp.Wo)


@torch.no_grad()
def roformer_model(encoder, theirs) -> None:
    """SequenceEncoder(WordPieces, Transformer) from transformers' RoFormerModel, whose rotary pairs of features are
    neighbours: queries and keys with the features of each head in our order, the even ones first."""
    frontend, trunk, embeddings = encoder.frontend, encoder.trunk, theirs.embeddings
    take(frontend.token_embedding, embeddings.word_embeddings)
    take(frontend.segment_embedding, embeddings.token_type_embeddings)
    take(trunk.norm, embeddings.LayerNorm)
    bert_layers(trunk, theirs.encoder.layer)
    size = trunk.head_dim
    order = torch.arange(trunk.dim).view(-1, size // 2, 2).transpose(1, 2).flatten()
    for layer in trunk.blocks:
        for linear in (layer.attention.query, layer.attention.key):
            linear.weight.copy_(linear.weight[order].clone())
            linear.bias.copy_(linear.bias[order].clone())


@torch.no_grad()
def gpt_neox_model(encoder, theirs) -> None:
    """SequenceEncoder(WordPieces, Transformer) from transformers' GPTNeoXModel, whose heads have their query, key and
    value side by side."""
    frontend, trunk = encoder.frontend, encoder.trunk
    take(frontend.token_embedding, theirs.embed_in)
    take(trunk.norm, theirs.final_layer_norm)
    for layer, other in zip(trunk.blocks, theirs.layers, strict=True):
        fused, heads = other.attention.query_key_value, layer.attention.heads
        for number, name in enumerate(("query", "key", "value")):
            linear = getattr(layer.attention, name)
            linear.weight.copy_(fused.weight.unflatten(0, (heads, 3, -1))[:, number].flatten(0, 1))
            linear.bias.copy_(fused.bias.unflatten(0, (heads, 3, -1))[:, number].flatten())
        take(layer.attention.out, other.attention.dense)
        take(layer.attention_norm, other.input_layernorm)
        take(layer.mlp_norm, other.post_attention_layernorm)
        take(layer.up, other.mlp.dense_h_to_4h)
        take(layer.down, other.mlp.dense_4h_to_h)


def llama_model(encoder, theirs) -> None:
    """SequenceEncoder(WordPieces, Transformer) from transformers' LlamaModel or MistralModel."""
    take(encoder.frontend.token_embedding, theirs.embed_tokens)
    take(encoder.trunk.norm, theirs.norm)
    for layer, other in zip(encoder.trunk.blocks, theirs.layers, strict=True):
        for name, theirs_name in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "o_proj")):
            take(getattr(layer.attention, name), getattr(other.self_attn, theirs_name))
        take(layer.attention_norm, other.input_layernorm)
        take(layer.mlp_norm, other.post_attention_layernorm)
        for name, theirs_name in (("gate", "gate_proj"), ("up", "up_proj"), ("down", "down_proj")):
            take(getattr(layer, name), getattr(other.mlp, theirs_name))


@torch.no_grad()
def vit_model(encoder, theirs) -> None:
    """SequenceEncoder(Patches, Transformer) from transformers' ViTModel."""
    frontend, trunk, embeddings = encoder.frontend, encoder.trunk, theirs.embeddings
    conv = embeddings.patch_embeddings.projection
    frontend.linear.weight.copy_(conv.weight.permute(0, 2, 3, 1).flatten(1))  # channels last within a patch
    frontend.linear.bias.copy_(conv.bias)
    frontend.cls_token.copy_(embeddings.cls_token[0, 0])
    frontend.position_embedding.copy_(embeddings.position_embeddings[0])
    take(trunk.norm, theirs.layernorm)
    vit_layers(trunk.blocks, theirs.layers)


@torch.no_grad()
def vit_layers(ours, theirs) -> None:
    """Layers of a Transformer from transformers' ViTLayer."""
    for layer, other in zip(ours, theirs, strict=True):
        take(layer.attention.query, other.attention.q_proj)
        take(layer.attention.key, other.attention.k_proj)
        take(layer.attention.value, other.attention.v_proj)
        take(layer.attention.out, other.attention.o_proj)
        take(layer.attention_norm, other.layernorm_before)
        take(layer.up, other.mlp.fc1)
        take(layer.down, other.mlp.fc2)
        take(layer.mlp_norm, other.layernorm_after)


def resnet(ours, theirs) -> None:
    """ResNet from torchvision's."""
    blocks = [block for stage in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4) for block in stage]
    take(ours.stem[0], theirs.conv1)
    take(ours.stem[1], theirs.bn1)
    for block, other in zip(ours.blocks, blocks, strict=True):
        for number, conv in enumerate(block.convs, start=1):
            take(conv[0], getattr(other, f"conv{number}"))
            take(conv[1], getattr(other, f"bn{number}"))
        if other.downsample is not None:
            take(block.shortcut, other.downsample)


def hidden_of(layers, norm_after, run):
    """What enters and leaves each of a peer's layers as `run` calls it, the last normed if its trunk does."""
    seen = []
    hooks = [layers[0].register_forward_pre_hook(lambda m, args, kw: seen.append(args[0]), with_kwargs=True)]

    def note(module, args, out) -> None:
        seen.append(out[0] if isinstance(out, tuple) else out)

    hooks += [layer.register_forward_hook(note) for layer in layers]
    result = run()
    for hook in hooks:
        hook.remove()
    if norm_after is not None:
        seen[-1] = norm_after(seen[-1])
    return result, [x.detach() for x in seen]


def assert_hidden(ours, theirs, lengths):
    assert len(ours) == len(theirs)
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for row, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(a[row, :length], b[row, :length], **CLOSE, msg=f"hidden[{number}], row {row}")


def shaken(module):
    """Random biases and norms too: a library starts them at 0 and 1, which hides a missing one."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return module


def batch_of(items) -> Batch:
    tensors = [torch.as_tensor(x) for x in items]
    rows = torch.arange(len(items))
    seeds = torch.tensor([rng.derive_seed(3, i) for i in rows.tolist()])
    return Batch(pad(tensors), torch.tensor([len(x) for x in tensors]), seeds, rows)
