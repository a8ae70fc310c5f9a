"""Draw the README's picture: what the demo's image encoder was asked, from the run's own visualization."""

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from sslzoo.report.pictures import array
from sslzoo.report.record import read
from sslzoo.report.visualizations import layout
from sslzoo.run import Run

shown = layout(read(Run(Path("runs/bench_demo/vision-s0"))).visualization)
images, captions, right = array(shown["images"]), shown["captions"], shown["right"]
figure, axes = plt.subplots(2, 8, figsize=(10, 3.2))
for place, axis in enumerate(axes.flat):
    axis.imshow(images[place].transpose(1, 2, 0).clip(0, 1), interpolation="nearest")
    axis.set_axis_off()
    if place % 2:
        axis.set_title(captions[place], fontsize=9, color="#2a7f3f" if right[place] else "#b03a2e", loc="left")
figure.suptitle(shown["title"], fontsize=11, family="serif", style="italic")
figure.tight_layout(h_pad=2)
figure.savefig(Path(__file__).parent / "results" / "demo.png", dpi=110, facecolor="#fffff8")
