import re
from pathlib import Path

import pytest

from sslzoo.report import page
from sslzoo.report.planes import COLOURS, SHADES

CSS = Path(page.__file__).with_name("page.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
)
READ = ("ink", "soft", "accent", "good", "bad", *(f"c{n}" for n in range(COLOURS)))  # as text, or as a legend's mark


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") == pytest.approx(
        4.48, abs=0.01
    )


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "wash"])
@pytest.mark.parametrize("name", READ)
def test_what_is_read_and_every_colour_of_a_legend_has_contrast(palette, ground, name):
    assert contrast(palette[name], palette[ground]) >= 4.5


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_of_a_legend_differ(palette):
    assert len({palette[f"c{n}"] for n in range(COLOURS)}) == COLOURS


def test_shades_of_values_are_colours_of_the_palette():
    assert len(set(re.findall(r"\.s(\d) \{ stroke: var\(--c\d\)", CSS))) == SHADES


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("cell", ["ink", "accent"])
def test_a_number_in_a_cell_can_be_read_however_dark_the_cell(palette, cell):
    from sslzoo.report.confusion import FAINT

    parts = [[int(palette[name][k : k + 2], 16) for k in (1, 3, 5)] for name in (cell, "wash")]
    mixed = "#" + "".join(f"{round(FAINT * a + (1 - FAINT) * b):02x}" for a, b in zip(*parts, strict=True))
    assert contrast(palette["ink"], mixed) >= 4.5
