"""Compatibility with older runs: translating renamed modules, settings and weights.

Only the files that finished runs are read from are translated: `encoder.json`, `config.yaml` and `encoder.safetensors`.
Checkpoints of unfinished older runs are refused (see `build.write_config`).
"""

import re

TARGETS = {  # `_target_`: old -> new
    "sslzoo.data.masking.Spans": "sslzoo.augment.masking.SpanMask",
    "sslzoo.data.masking.Pieces": "sslzoo.augment.masking.TokenMask",
    "sslzoo.data.masking.Frames": "sslzoo.augment.masking.FrameCorruption",
    "sslzoo.data.masking.FramesAndChannels": "sslzoo.augment.masking.FrameChannelCorruption",
    "sslzoo.data.views.ImageViews": "sslzoo.augment.image_views.ImageViews",
    "sslzoo.data.spectrogram_views.SpectrogramViews": "sslzoo.augment.spectrogram_views.SpectrogramViews",
}
SETTINGS = {  # by `_target_`: old setting -> new
    "sslzoo.encoders.sequence.SequenceEncoder": {"front": "frontend"},
    "sslzoo.objectives.reconstruct.Reconstruct": {"alter": "corruption"},
    "sslzoo.objectives.byol.BYOL": {"decay": "momentum"},
    "sslzoo.objectives.moco.MoCo": {"decay": "momentum"},
}
WEIGHTS = (  # (pattern, replacement) for names of an encoder's parameters and buffers, applied in this order
    (r"^front\.", "frontend."),
    (r"^frontend\.pieces\.", "frontend.token_embedding."),
    (r"^frontend\.places\.", "frontend.position_embedding."),
    (r"^frontend\.segments\.", "frontend.segment_embedding."),
    (r"^frontend\.first$", "frontend.cls_token"),
    (r"^frontend\.position$", "frontend.position_embedding"),
    (r"^trunk\.layers\.", "trunk.blocks."),
)


def translate(node):
    """A config, or a node of one, with current `_target_`s and settings; idempotent."""
    if isinstance(node, list):
        return [translate(item) for item in node]
    if not isinstance(node, dict):
        return node
    target = node.get("_target_")
    renamed = SETTINGS.get(target, {}) if isinstance(target, str) else {}
    found = {renamed.get(key, key): translate(value) for key, value in node.items()}
    if isinstance(target, str):
        found["_target_"] = TARGETS.get(target, target)
    return found


def is_old(config: dict) -> bool:
    """Whether a config uses names that have been renamed since."""
    return translate(config) != config


def translate_weights(weights: dict) -> dict:
    """An encoder's state dict with current names; idempotent."""
    found = {}
    for name, value in weights.items():
        for old, new in WEIGHTS:
            name = re.sub(old, new, name)
        found[name] = value
    return found
