"""Inline SVG elements. Colours are CSS classes of the page's style sheet, for both light and dark mode. Text is escaped
here."""

import math
from html import escape

import numpy as np


def short(value: float) -> str:
    """A number in few characters: three significant digits, thousands as k."""
    if not math.isfinite(value):
        return "—"
    size = abs(value)
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")
    if size >= 1e4:
        return f"{value / 1000:.0f}k"
    text = f"{value:.3g}" if size < 100 else f"{value:.0f}"
    return text.replace("-", "−")


def svg(body: list[str], width: float, height: float, label: str, kind: str = "", more: str = "") -> str:
    """An SVG element. label: the description for screen readers. more: further attributes, as HTML."""
    head = f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" {more}'
    return f'{head} class="{kind}" aria-label="{escape(label)}">{"".join(body)}</svg>'


def tip(words: str) -> str:
    """An attribute with a tooltip for the page's script."""
    return f' data-tip="{escape(words)}"' if words else ""


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "axis") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def dot(x: float, y: float, kind: str, radius: float = 3, told: str = "") -> str:
    """told: the tooltip."""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" class="{kind}"{tip(told)}/>'


def path(x: np.ndarray, y: np.ndarray, kind: str) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline points="{points}" class="{kind}"/>'


def labels(wanted: list[tuple[float, float, str, str]]) -> list[str]:
    """Labels (x, y, text, CSS class), shifted up or down so that they do not overlap."""
    taken: list[tuple[float, float, float]] = []  # left, right, middle
    drawn = []
    for x, y, words, look in wanted:
        end = x + 6 * len(words)
        shifts = (step * sign for step in range(0, 200, 4) for sign in (1, -1))
        free = (y + s for s in shifts if all(abs(y + s - m) >= 11 or end < lo or x > hi for lo, hi, m in taken))
        place = next(free, y)
        taken.append((x, end, place))
        if abs(place - y) > 6:
            drawn.append(line(x - 5, y, x - 1, place, "axis"))
        drawn.append(text(x, place + 4, words, look))
    return drawn
