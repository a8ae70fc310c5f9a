"""Folders that transformers wrote, of speech and images: small models with random weights, and what prepares inputs."""

from pathlib import Path

import numpy as np
import torch
import transformers
from foreign import shaken

SPEECH = ("wav2vec2", "wav2vec2_large", "hubert", "wavlm", "wavlm_large", "data2vec", "whisper")
IMAGES = ("vit", "vit_mae", "dinov2", "dinov2_giant", "dinov2_resized", "dinov2_registers", "registers_resized")
MEAN, STD = [0.48, 0.45, 0.4], [0.22, 0.23, 0.25]
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
SPEECH_SIZES = SIZES | {
    "intermediate_size": 40,
    "conv_dim": (12, 12, 12),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 4, 4),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
CODES = {"codevector_dim": 8, "proj_codevector_dim": 6, "num_codevectors_per_group": 5}


def model_of(family: str, head: bool = False) -> transformers.PreTrainedModel:
    """A model with random weights, its dropout off."""
    torch.manual_seed(0)
    large = LARGE if family.endswith("_large") else {}
    images = {"image_size": 16, "patch_size": 4, "layer_norm_eps": 1e-6}
    decoder = {"decoder_hidden_size": 24, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2}
    if family.startswith("wav2vec2"):
        kind = transformers.Wav2Vec2ForPreTraining if head else transformers.Wav2Vec2Model
        model = kind(transformers.Wav2Vec2Config(**SPEECH_SIZES | large | CODES))
    elif family == "hubert":
        model = transformers.HubertModel(transformers.HubertConfig(**SPEECH_SIZES))
    elif family.startswith("wavlm"):
        config = transformers.WavLMConfig(**SPEECH_SIZES | large, num_buckets=16, max_bucket_distance=20)
        model = transformers.WavLMModel(config)
    elif family == "data2vec":
        own = {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5}
        model = transformers.Data2VecAudioModel(transformers.Data2VecAudioConfig(**SPEECH_SIZES | own))
    elif family == "whisper":
        sizes = {"d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 40}
        sizes |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "max_source_positions": 50}
        tokens = {"vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
        tokens |= {"decoder_start_token_id": 1}
        model = transformers.WhisperModel(transformers.WhisperConfig(**sizes, **tokens, num_mel_bins=20))
    elif family == "vit":
        model = transformers.ViTModel(transformers.ViTConfig(**SIZES | images, intermediate_size=40))
    elif family == "vit_mae":
        config = transformers.ViTMAEConfig(
            **SIZES | images | decoder, intermediate_size=40, decoder_intermediate_size=32
        )
        model = (transformers.ViTMAEForPreTraining if head else transformers.ViTMAEModel)(config)
    else:
        gated = family == "dinov2_giant"
        config = transformers.Dinov2Config(**SIZES | images, use_swiglu_ffn=gated, layerscale_value=0.5)
        model = transformers.Dinov2Model(config)
        if "registers" in family:
            config = transformers.Dinov2WithRegistersConfig(
                **SIZES | images, num_register_tokens=3, layerscale_value=0.5
            )
            model = transformers.Dinov2WithRegistersModel(config)
    return shaken(model).eval()


def folder_of(family: str, path: Path, head: bool = False) -> Path:
    """A folder with a model and its feature extractor."""
    model_of(family, head).save_pretrained(path)
    if family == "whisper":
        transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=1).save_pretrained(path)
    elif family in SPEECH:
        transformers.Wav2Vec2FeatureExtractor(do_normalize=family != "hubert").save_pretrained(path)
    else:
        size = {"height": 12, "width": 12} if family.endswith("_resized") else {"height": 16, "width": 16}
        transformers.ViTImageProcessor(size=size, image_mean=MEAN, image_std=STD).save_pretrained(path)
    return path


def waves(*lengths: int) -> list[np.ndarray]:
    g = np.random.default_rng(0)
    return [(0.1 * g.standard_normal(n) + 0.02).astype(np.float32) for n in lengths]


def pictures(size: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def theirs_of_wave(folder: Path, wave: np.ndarray) -> list[torch.Tensor]:
    """Hidden states of one utterance, as AutoFeatureExtractor and AutoModel have them."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(wave, sampling_rate=16000, return_tensors="pt")
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = getattr(model, "encoder", model) if "input_features" in inputs else model
    out = model(next(iter(inputs.values())), output_hidden_states=True)
    return [*out.hidden_states[:-1], out.last_hidden_state]


@torch.no_grad()
def theirs_of_pictures(folder: Path, images: torch.Tensor):
    """What AutoModel answers to images as AutoImageProcessor prepares them."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    inputs = processor([x.permute(1, 2, 0).numpy() for x in images], return_tensors="pt", do_resize=False)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    more = {}
    if model.config.model_type == "vit_mae":  # in order, and all of them
        model.embeddings.config.mask_ratio = 0.0
        more["noise"] = torch.arange(model.embeddings.patch_embeddings.num_patches).float().expand(len(images), -1)
    return model(inputs["pixel_values"], output_hidden_states=True, **more)
