"""Converting the result of an objective's `visualize` to a layout of `report.pictures`, with titles and captions.

Each is a dict of CPU tensors and numbers, saved with `torch.save` and loaded with `weights_only=True`. B rows of a
batch, V views, T tokens; `rank` is the number of candidates that scored as high as the right one or higher, 0 if right.

    view_pairs      views [B, 2, C, S, S], or of standardised log-mel frames [B, 2, T, F] with zeros for padding;
                    rank [B] and candidates (int), or cosine [B]
    patch_pairs     views [B, 2, C, S, S]; target and prediction [B], a position 0..7 around the centre, row by row
    clusters        views [B, 1, C, S, S]; target and prediction [B]; clusters (int)
    rotations       views [B, 4, C, S, S]; prediction [B, 4], quarter turns
    jigsaws         tiles [B, 9, C, S, S] as they were shuffled; permutations int64 [P, 9]; target and prediction [B]
    masked_patches  images and prediction [B, C, S, S] in 0..1; mask bool [B, P], P a square; mean [C, 1, 1], the
                    colour of masked patches
    masked_codes    images [B, C, S, S] in 0..1; mask and right bool [B, P], P a square: of which masked patches the
                    code was named; mean [C, 1, 1]
    target_blocks   images [B, C, S, S]; context bool [B, P]; targets int64 [B, M, N], patches of the blocks; rank
                    [B, M * N], among the P patches of the image
    next_colors     images and prediction [B, C, S, S] in 0..1; bits [B], of a pixel
    masked_frames   of an utterance: frames [T * stack, F], or waveform [N] and sample_rate; mask bool [T]; rank, whose
                    first entries are those of its masked tokens; candidates (int)
    future_frames   frames, or waveform and sample_rate, as above; ahead (int), in tokens; prediction, of the frames'
                    shape, or rank [T], -1 without a prediction, and candidates
    altered_frames  frames and prediction [T, F]; mask bool [T, F]
    masked_tokens   ids, prediction int64 [B, T] and mask bool [B, T]; lengths [B]; words {id: text}
    next_tokens     ids [B, T]; prediction [B, T - 1, K], the likeliest tokens from the second on, and rank [B, T - 1];
                    lengths [B]; words {id: text}; texts: [prompt, continuation]

There may be fewer rows of views than of predictions. An older run's file is a layout already; see `report.pictures`.
"""

import math

import numpy as np

from sslzoo.report import pictures

ANGLE = 90
PLACES = ("up left", "up", "up right", "left", "right", "down left", "down", "down right")
N_MELS = 80


def visible(text: str) -> str:
    """A piece of text with symbols for white space and for special tokens, which have no text."""
    return text.replace(" ", "␣").replace("\n", "⏎") if text.strip() != text else text or "∅"


def upright(views: np.ndarray) -> np.ndarray:
    """Standardised log-mel frames [..., T, F] as images [..., 1, F, T]: loud is dark, the lowest band at the bottom,
    padding white."""
    grey = np.where(views.any(-1, keepdims=True), np.clip(0.5 - views / 6, 0, 1), 1.0)
    return np.flip(grey.swapaxes(-1, -2), -2)[..., None, :, :]


def gallery(title: str, views: np.ndarray, captions: list[str], right=None, columns: int = 8) -> dict:
    """Views [B, V, C, H, W] side by side, with a caption under the last view of each row. right [B]: marks captions as
    right or wrong."""
    rows, many = views.shape[:2]
    layout = {
        "kind": "images",
        "title": title,
        "images": views.reshape(-1, *views.shape[2:]),
        "captions": [text for caption in captions[:rows] for text in (*[""] * (many - 1), caption)],
        "columns": columns,
    }
    return layout if right is None else layout | {"right": np.repeat(right[:rows], many)}


def named(title: str, views: np.ndarray, target: np.ndarray, prediction: np.ndarray, name, columns: int = 8) -> dict:
    """A gallery with the true and predicted class in the captions. name: function from a class number to its text."""
    captions = [f"{name(t)}: said {name(p)}" for t, p in zip(target.tolist(), prediction.tolist(), strict=True)]
    return gallery(title, views, captions, target == prediction, columns)


def frames(shown: dict) -> np.ndarray:
    """Log-mel frames [T, F], computed from the waveform if there are none."""
    if "frames" in shown:
        return shown["frames"]
    import torch

    from sslzoo.nn.mel import LogMel

    wave, rate = torch.from_numpy(shown["waveform"])[None], int(shown["sample_rate"])
    # half as many filters below 16 kHz
    mels, _ = LogMel(rate, N_MELS if rate >= 16000 else N_MELS // 2)(wave, torch.tensor([wave.shape[1]]))
    return mels[0].numpy()


def _view_pairs(shown: dict) -> dict:
    views = upright(shown["views"]) if shown["views"].ndim == 4 else shown["views"]
    if "rank" not in shown:
        title = "Two views of each item, and how well each predicts the other"
        return gallery(title, views, [f"cosine {c:.2f}" for c in shown["cosine"].tolist()])
    rank, candidates = shown["rank"], int(shown["candidates"])
    title = f"Two views of each image; where the second came among {candidates} candidates"
    return gallery(title, views, [f"rank {r + 1}" for r in rank.tolist()], rank == 0)


def _patch_pairs(shown: dict) -> dict:
    title = "Two patches of each image, with the one colour that was left of them, and where the second lies"
    return named(title, shown["views"], shown["target"], shown["prediction"], lambda place: PLACES[place])


def _clusters(shown: dict) -> dict:
    title = f"Views of images, their clusters of {int(shown['clusters'])}, and what the head said"
    return named(title, shown["views"], shown["target"], shown["prediction"], str)


def _rotations(shown: dict) -> dict:
    views = shown["views"]
    prediction = shown["prediction"][: len(views)]
    target = np.broadcast_to(np.arange(prediction.shape[1]), prediction.shape)
    each = views.reshape(-1, 1, *views.shape[2:])
    title = "Each image in four orientations, and the one that was named"
    return named(title, each, target.ravel(), prediction.ravel(), lambda turn: f"{ANGLE * turn}°", columns=4)


def _jigsaws(shown: dict) -> dict:
    tiles, orders = shown["tiles"], shown["permutations"]
    target, prediction = shown["target"][: len(tiles)], shown["prediction"][: len(tiles)]
    back = orders[prediction].argsort(1)  # where each tile went, if the prediction is right
    solved = np.take_along_axis(tiles, back[:, :, None, None, None], 1)
    side, (channels, tile) = math.isqrt(tiles.shape[1]), tiles.shape[2:4]
    pair = np.stack([tiles, solved], 1).reshape(len(tiles), 2, side, side, channels, tile, tile)
    whole = pair.transpose(0, 1, 4, 2, 5, 3, 6).reshape(len(tiles), 2, channels, side * tile, side * tile)
    captions = [f"{int(n)} of 9 tiles in place" for n in (orders[prediction] == orders[target]).sum(1)]
    title = f"Shuffled tiles, and the picture that the order makes which was named among {len(orders)}"
    return gallery(title, whole, captions, target == prediction)


def _masked_patches(shown: dict) -> dict:
    images, prediction, mask = shown["images"], shown["prediction"], shown["mask"]
    side = math.isqrt(mask.shape[1])
    patch = images.shape[-1] // side
    hidden = np.kron(mask.reshape(-1, 1, side, side), np.ones((patch, patch), bool))
    three = [images, np.where(hidden, shown["mean"], images), np.where(hidden, prediction, images)]
    title = f"Images, the {int((~mask[0]).sum())} patches that were seen, and what was made of them"
    each = np.stack(three, 1).reshape(-1, 1, *images.shape[1:])
    return gallery(title, each, ["whole", "seen", "rebuilt"] * len(images), columns=6)


def _masked_codes(shown: dict) -> dict:
    images, mask, right = shown["images"], shown["mask"], shown["right"]
    side = math.isqrt(mask.shape[1])
    patch = images.shape[-1] // side
    hidden, lost = (np.kron(x.reshape(-1, 1, side, side), np.ones((patch, patch), bool)) for x in (mask, mask & ~right))
    views = np.stack([images, *(np.where(x, shown["mean"], images) for x in (hidden, lost))], 1)
    counts = zip(right.sum(1).tolist(), mask.sum(1).tolist(), strict=True)
    title = "Images, what was seen of them, and the masked patches that were given the teacher's code"
    return gallery(title, views, [f"{found} of {many}" for found, many in counts], columns=6)


def _target_blocks(shown: dict) -> dict:
    images, targets = shown["images"], shown["targets"]
    images = images / 255 if images.dtype == np.uint8 else images
    count, patches = len(images), shown["context"].shape[1]
    side = math.isqrt(patches)
    asked = np.zeros((count, patches), bool)
    np.put_along_axis(asked, targets.reshape(count, -1), True, 1)
    patch = images.shape[-1] // side
    spread = [np.kron(x.reshape(-1, 1, side, side), np.ones((patch, patch), bool)) for x in (shown["context"], asked)]
    views = np.stack([images, *(np.where(x, images, 0.5) for x in spread)], 1)
    found = (shown["rank"] < patches / 10).mean(1)
    title = f"Images, the context, and the {targets.shape[1]} blocks whose features were predicted from it"
    captions = [f"{share:.0%} near the right patch" for share in found]
    return gallery(title, views, captions, columns=6)


def _next_colors(shown: dict) -> dict:
    images, title = (
        shown["images"],
        "Images in the palette's colours, and the likeliest colour of each pixel from those before",
    )
    captions = [f"{bits:.2f} bits a pixel" for bits in shown["bits"].tolist()]
    return gallery(title, np.stack([images, shown["prediction"]], 1), captions)


def _masked_frames(shown: dict) -> dict:
    mask, candidates = shown["mask"], int(shown["candidates"])
    place = np.full(len(mask), -1)
    place[mask] = shown["rank"][: mask.sum()]
    title = f"Masked frames, and where the right code came among {candidates}"
    return _frames(title, frames(shown), mask, place=place, candidates=candidates)


def _future_frames(shown: dict) -> dict:
    ahead, drawn = int(shown["ahead"]), frames(shown)
    if "rank" not in shown:
        title = f"A spectrogram, and what was predicted of it {ahead} tokens before"
        return _frames(title, drawn, np.zeros(len(drawn), bool), rebuilt=shown["prediction"])
    rank, candidates = shown["rank"], int(shown["candidates"])
    title = f"Where each token came among {candidates}, {ahead} tokens before it was heard"
    return _frames(title, drawn, np.zeros(len(rank), bool), place=rank, candidates=candidates)


def _altered_frames(shown: dict) -> dict:
    mask, title = shown["mask"], "A spectrogram, what was altered, and what was made of it"
    rebuilt = np.where(mask, shown["prediction"], shown["frames"])
    return _frames(title, shown["frames"], mask.any(1), rebuilt=rebuilt)


def _frames(title: str, drawn: np.ndarray, mask: np.ndarray, **answers) -> dict:
    return {"kind": "frames", "title": title, "frames": drawn, "mask": mask, **answers}


def _masked_tokens(shown: dict) -> dict:
    rows = []
    for ids, mask, prediction, n in zip(*(shown[k] for k in ("ids", "mask", "prediction", "lengths")), strict=True):
        row = {"tokens": _words(shown, ids[:n]), "masked": mask[:n].tolist()}
        rows.append(row | {"predicted": _words(shown, prediction[:n])})
    return {"kind": "tokens", "title": "Masked pieces, and what was written in their place", "rows": rows}


def _next_tokens(shown: dict) -> dict:
    rows = []
    for ids, guesses, rank, n in zip(*(shown[k] for k in ("ids", "prediction", "rank", "lengths")), strict=True):
        row = {"tokens": _words(shown, ids[:n]), "masked": [False, *[True] * (n - 1)]}
        row["predicted"] = ["", *(_words(shown, best) for best in guesses[: n - 1])]
        rows.append(row | {"place": [0, *rank[: n - 1].tolist()]})
    title = "A text, and what was guessed of each token from those before it"
    return {"kind": "tokens", "title": title, "rows": rows, "continued": [shown["texts"]] if "texts" in shown else []}


def _words(shown: dict, ids: np.ndarray) -> list[str]:
    """The text of each id, or the id itself if unknown."""
    words = shown.get("words", {})
    return [visible(words.get(i, str(i))) for i in ids.tolist()]


KINDS = {
    "view_pairs": _view_pairs,
    "patch_pairs": _patch_pairs,
    "clusters": _clusters,
    "rotations": _rotations,
    "jigsaws": _jigsaws,
    "masked_patches": _masked_patches,
    "masked_codes": _masked_codes,
    "target_blocks": _target_blocks,
    "next_colors": _next_colors,
    "masked_frames": _masked_frames,
    "future_frames": _future_frames,
    "altered_frames": _altered_frames,
    "masked_tokens": _masked_tokens,
    "next_tokens": _next_tokens,
}


def layout(shown: dict) -> dict:
    """The layout for `report.pictures`. Raises ValueError if `shown` is not in the format of its kind above."""
    kind = shown.get("kind")
    if kind not in KINDS:
        return shown  # an older run's layout, or unknown, reported when drawn
    try:
        return KINDS[kind]({k: pictures.array(x) if hasattr(x, "detach") else x for k, x in shown.items()})
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"a visualization of the kind '{kind}' lacks or misuses {error}") from error


def draw(shown: dict) -> str:
    """The visualization as HTML. Raises ValueError if it is not in the format above."""
    return pictures.draw(layout(shown))
