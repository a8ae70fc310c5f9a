"""SUPERB's tasks and neighbours alone on real speech, of encoders from here and from elsewhere, in one table.

`sslzoo bench` on log-mels, an encoder before its first step, three small ones pretrained from there, a wav2vec 2.0
of transformers with random weights saved to a folder, and resemblyzer's encoder of speakers where that is installed
(`pip install --no-deps resemblyzer`). Data sets that are not there are named in the table. The same command goes on.

By default each task has a few hundred steps of small heads (`--scale small`), hours of two cores; `--scale tiny` shows
in minutes that all of it runs; `--scale published` is for GPUs.
"""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from bench import HERE, arguments, run

ROOT = Path("runs") / "superb"
PRETRAINED = {  # of a few minutes each on two cores
    "tera": ["objective=tera"],
    "best_rq": ["objective=best_rq", "objective.entries=512", "objective.mask.length=10"],
    "wav2vec2": [
        *("objective=wav2vec2", "objective.negatives=50", "objective.entries=64", "objective.code_dim=128"),
        *("objective.output_dim=128", "objective.gumbel=[2.0,0.5,0.995]", "objective.feature_penalty=0.0"),
    ],
}
SHARED = ["data=spoken", "encoder=logmel_small", "optim=adamw_linear", "optim.lr=0.001"]
SIZES = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}


def main() -> int:
    parser = arguments(__doc__, data=True)
    parser.add_argument("--scale", default="small", help="small, tiny or published (default small)")
    parser.add_argument("--steps", type=int, default=200, help="of pretraining (default 200)")
    parser.add_argument("--tasks", default=None, help="some of them, separated by commas")
    said = parser.parse_args()
    program, root = [sys.executable, "-m", "sslzoo"], f"root={ROOT}"
    for name, words in PRETRAINED.items():
        words = [*words, *SHARED, f"trainer.max_steps={said.steps}", f"name={name}", root]
        if code := run([*program, "pretrain", *words]):
            return code
    first = next(iter(PRETRAINED))  # all of them begin with these weights
    encoders = [
        "class:sslzoo.encoders.filterbank.Filterbank",
        f"untrained:{first}",
        *PRETRAINED,
        f"hf:{random_wav2vec2()}",
    ]
    if importlib.util.find_spec("resemblyzer"):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        encoders.append("class:speaker_encoder.Resemblyzer")
    words = [f"run=[{','.join(encoders)}]", f"data_root={said.data}", f"scale={said.scale}"]
    words += [f"seeds=[{said.seeds}]", "benchmark=[superb,knn]", "name=table", root]
    words += [f"tasks=[{said.tasks}]"] * (said.tasks is not None)
    code = run([*program, "bench", *words])
    found = ROOT / "table" / "results.json"
    if found.exists():
        (HERE / "results").mkdir(exist_ok=True)
        shutil.copy(found, HERE / "results" / "superb.json")
    return code


def random_wav2vec2() -> Path:
    """A folder with a small wav2vec 2.0 that transformers made and saved, untrained."""
    folder = ROOT / "random_wav2vec2"
    if not (folder / "config.json").exists():
        import torch
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

        torch.manual_seed(0)
        Wav2Vec2Model(Wav2Vec2Config(**SIZES, conv_dim=(128,) * 7)).save_pretrained(folder)
        Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
