"""Drawing an objective's inputs and predictions.

`report.visualizations` converts what an objective returned to one of these dicts of lists, strings, numbers, bools
and arrays or CPU tensors; visualization.pt of an older run holds one already. Every kind has `kind` and may have
`title` (str, without a full stop).

    {"kind": "images", "images": [N, C, H, W], "captions": [str] * N, "right": bool [N], "columns": int}
        images in rows of `columns`; C is 1 or 3, uint8 or float in 0..1 (not normalised). `right` (optional)
        marks images whose caption is not "". `heads` ([str] * columns, optional): titles of the columns.
        SimCLR: pairs of views, columns 8, captions "" and "rank 3"; rotation: columns 4, "90°: said 180°";
        MAE: columns 6, captions "whole", "seen", "rebuilt"

    {"kind": "frames", "frames": float [T, F], "mask": bool [M], "place": int [M], "candidates": int,
     "rebuilt": float [T, F]}
        one utterance's log-mel frames, the lowest band first; M tokens are spread evenly over the T frames.
        `place` is the number of candidates that scored above the true one, so that 0 is right, and -1 if there
        was no prediction; `candidates` is their number, including the true one. `place` with `candidates`
        (wav2vec 2.0) and `rebuilt` (reconstruction) are optional.

    {"kind": "tokens", "rows": [{"tokens": [str], "masked": [bool], "predicted": [str or [str]]}, ...]}
        a sentence per row. `tokens` are the true ones; `predicted` has a prediction for each token, or several,
        best first; only those of masked tokens are shown. `seen` ([str], optional): the encoder's input at each
        token; `place` ([int], optional): the number of pieces that scored above the true one. A WordPiece with
        ## is joined to the one before. `continued` ([[str, str]] beside `rows`, optional): prompts and the
        model's continuations.
"""

import base64
import io
from html import escape

import numpy as np
from PIL import Image


def _png(pixels: np.ndarray) -> str:
    """uint8 [H, W] or [H, W, 3] as a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def array(tensor) -> np.ndarray:
    """A NumPy array unchanged, or a tensor as one (floats as float32)."""
    if isinstance(tensor, np.ndarray):
        return tensor
    return (tensor.float() if tensor.is_floating_point() else tensor).detach().cpu().numpy()


def _image(x: np.ndarray, alt: str) -> str:
    if x.ndim != 3 or x.shape[0] not in (1, 3):
        raise ValueError(f"an image is [1 or 3, H, W], not {list(x.shape)}")
    if x.dtype != np.uint8:
        x = (np.clip(np.nan_to_num(x), 0, 1) * 255).round().astype(np.uint8)
    x = x[0] if x.shape[0] == 1 else x.transpose(1, 2, 0)
    small = ' class="small"' if max(x.shape[:2]) <= 96 else ""  # scaled up without smoothing
    return f'<img src="{_png(np.ascontiguousarray(x))}" alt="{escape(alt)}"{small}>'


def _images(layout: dict) -> str:
    images, right = array(layout["images"]), layout.get("right")
    if len(layout["captions"]) != len(images):
        raise ValueError(f"{len(images)} images have {len(layout['captions'])} captions")
    cells = [f'<span class="head">{escape(str(head))}</span>' for head in layout.get("heads", [])]
    captions, columns = [str(c) for c in layout["captions"]], int(layout["columns"])
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        mark = ""
        if right is not None and caption:
            mark = '<b class="right">✓</b> ' if right[number] else '<b class="wrong">✗</b> '
        told = f"<figcaption>{mark}{escape(caption)}</figcaption>" if any(captions) else ""
        # an image without caption belongs to the next with one, and is drawn close to it
        tied = ' class="tied"' if not caption and any(captions) else ""
        cells.append(f"<figure{tied}>{_image(image, caption)}{told}</figure>")
    narrow = columns // 2 if columns % 2 == 0 and columns > 4 else columns
    return f'<div class="gallery" style="--columns:{columns};--narrow:{narrow}">{"".join(cells)}</div>'


def _mel(tensor) -> str:
    """Frames [T, F] as an image's data URI: low bands at the bottom, loud is dark."""
    x = np.nan_to_num(array(tensor).astype(np.float32)).T[::-1]
    low, high = np.percentile(x, [2, 99.5])
    grey = 255 * (1 - np.clip((x - low) / max(high - low, 1e-9), 0, 1))
    return _png(np.ascontiguousarray(grey.astype(np.uint8)))


def _stretches(mask: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _frames(layout: dict) -> str:
    mask = array(layout["mask"]).astype(bool)
    width, tall, reach = 640.0, 128.0, 22.0
    unit = width / max(len(mask), 1)

    def picture(tensor, y: float) -> str:
        place = f'x="0" y="{y:g}" width="{width:g}" height="{tall:g}"'
        return f'<image {place} href="{_mel(tensor)}" preserveAspectRatio="none" class="ink"/>'

    body, bottom = [picture(layout["frames"], 0)], tall
    says = ["Log-mel frames" + ", the masked ones tinted" * bool(mask.any())]
    for start, stop in _stretches(mask):
        place = f'x="{start * unit:.1f}" y="0" width="{(stop - start) * unit:.1f}" height="{tall:g}"'
        body.append(f'<rect {place} class="masked"/>')
    if layout.get("rebuilt") is not None:
        body.append(picture(layout["rebuilt"], bottom + 6))
        bottom += tall + 6
        says.append("below them what was rebuilt")
    if layout.get("place") is not None:
        ranks, others = array(layout["place"]).astype(int), int(layout["candidates"]) - 1
        asked = np.flatnonzero(ranks >= 0)
        for place in asked.tolist():
            size = 5.0 + (reach - 5) * min(ranks[place] / max(others, 1), 1)
            at = f'x="{place * unit:.1f}" y="{bottom + 6:g}" width="{max(unit - 0.6, 0.6):.1f}"'
            body.append(f'<rect {at} height="{size:.1f}" class="{"wrong" if ranks[place] else "right"}"/>')
        bottom += reach + 8
        correct, chance = int((ranks[asked] == 0).sum()), len(asked) / (others + 1)
        says.append(
            f"the true one of {others + 1} candidates was chosen for {correct} of {len(asked)} (chance: "
            f"{chance:.1f}). A bar is the shorter, the fewer candidates came before it"
        )
    head = f'<svg viewBox="0 0 {width:g} {bottom:g}" class="wide" role="img" aria-label="frames">'
    return f'{head}{"".join(body)}</svg><p class="key">{escape("; ".join(says))}.</p>'


def _tokens(layout: dict) -> str:
    lines, asked, right = [], 0, 0
    for row in layout["rows"]:
        words, seen, above = [], row.get("seen"), row.get("place")
        for place, (token, masked) in enumerate(zip(row["tokens"], row["masked"], strict=True)):
            joined = " joined" if token.startswith("##") else ""
            name = escape(token.removeprefix("##") if joined else token)
            if not masked:
                words.append(f'<span class="token{joined}">{name}</span>')
                continue
            guesses = row["predicted"][place]
            guesses = [guesses] if isinstance(guesses, str) else list(guesses)
            asked, right = asked + 1, right + (guesses[:1] == [token])
            marked = [f"<i{' class=right' if g == token else ''}>{escape(str(g))}</i>" for g in guesses[:3]]
            other = f' title="the encoder saw {escape(str(seen[place]))}"' if seen else ""
            other = f' title="{int(above[place])} scored above it"' if above else other
            words.append(f'<span class="token asked{joined}"{other}><u>{name}</u>{"".join(marked)}</span>')
        lines.append(f'<p class="tokens">{"".join(words)}</p>')
    key = f"Underlined pieces were asked for; below them is the guess, right for {right} of {asked} (in green)."
    more = [f"{escape(text)}<b>{escape(rest)}</b>" for text, rest in layout.get("continued", [])]
    texts = "".join(f'<p class="continued">{text}</p>' for text in more)
    texts += '<p class="key">The beginning is given; how the model went on is set off from it.</p>' if more else ""
    return f'{"".join(lines)}<p class="key">{key}</p>{texts}'


KINDS = {"images": _images, "frames": _frames, "tokens": _tokens}


def draw(value: dict) -> str:
    """One of the dicts above as HTML. Raises ValueError if it is not in this format."""
    kind = value.get("kind")
    if kind not in KINDS:
        raise ValueError(f"no picture is known of the kind '{kind}'; the kinds are: {', '.join(KINDS)}")
    try:
        drawn = KINDS[kind](value)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"a picture of the kind '{kind}' lacks or misuses {error}") from error
    return (f'<p class="asked">{escape(str(value["title"]))}.</p>' if value.get("title") else "") + drawn
