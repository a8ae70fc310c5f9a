"""English sentences from the docstrings of Python packages that sslzoo depends on."""

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from inspect import cleandoc
from math import ceil
from pathlib import Path

import numpy as np

from sslzoo import rng
from sslzoo.data.base import maskable
from sslzoo.data.builtin import cached_arrays
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.sentences import Sentences
from sslzoo.data.text import TextData, Texts
from sslzoo.data.token_store import digest
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import ConfigError, UserError
from sslzoo.progress import track

# {import name: distribution} of the dependencies with the most documentation
PACKAGES = {
    "fontTools": "fonttools",
    "lightning": "lightning",
    "matplotlib": "matplotlib",
    "networkx": "networkx",
    "numpy": "numpy",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "sympy": "sympy",
    "torch": "torch",
    "torchmetrics": "torchmetrics",
}
SHARES = {"train": 0.75, "valid": 0.1, "test": 0.15}  # of each package's sentences
_PER_MODULE = 0.024  # maximum share of a module in a package's sentences
# folders of tests and of vendored code
_NO_PROSE = {"test", "tests", "testing", "_vendor", "externals", "_external", "extern", "vendored"}


class Docstrings(TextData):
    """Sentences from the docstrings of installed packages, parsed from their source without importing them.

    A module's sentences are in one split, and no sentence occurs twice. Label: package, one of ten. The text depends
    only on the versions of the packages.

    per_package: maximum sentences of each package.
    """

    has_sentences = True

    def __init__(
        self,
        batch: ByCount | BySeconds,
        vocab_size: int = 4000,
        max_tokens: int = 64,
        tokens: Tokens = "wordpiece",
        lowercase: bool = True,
        per_package: int = 2500,
        strip_accents: bool = False,
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase, strip_accents)
        if per_package < 1:
            raise ConfigError(f"data.per_package must be at least 1, got {per_package}")
        self.per_package = per_package

    def open_sentences(self, name: str) -> Sentences:
        """The sentences of a split; each module is a document."""
        items = self.split(name)
        modules = [item.rpartition(", sentence ")[0] for item in items.names]
        ids = [items.read(i).numpy() for i in range(len(items))]
        ident = digest(self.tokenizer.digest, self.max_tokens, self.fingerprint(name))
        return Sentences.of_items([x[maskable(x)] for x in ids], modules, f"docstrings ({name})", ident)

    def texts(self, split: str) -> Texts:
        found = {name: folder for name in PACKAGES if (folder := _folder(name))}
        missing = ", ".join(name for name in PACKAGES if name not in found)
        if missing:
            raise UserError(
                f"data=docstrings reads packages that sslzoo brings with it, but {missing} is not here — pip install sslzoo"
            )
        versions = [version(distribution) for distribution in PACKAGES.values()]
        arrays = cached_arrays(
            "docstrings", [__file__], (versions, self.per_package), lambda: make(found, self.per_package)
        )
        rows = np.flatnonzero(arrays["split"] == split)
        sentences = arrays["sentences"].tobytes().decode().split("\n")
        columns = {"package": arrays["package"][rows]}
        return Texts([sentences[i] for i in rows], [str(arrays["name"][i]) for i in rows], columns=columns)


class SwappedDocstrings(Docstrings):
    """`Docstrings`, with two adjacent words swapped in half of the sentences. Labels: swapped, 1 or 0; package.
    Only plain words inside the sentence are swapped, so a bag of words cannot tell."""

    def texts(self, split: str) -> Texts:
        texts = super().texts(split)
        rows = [i for i, text in enumerate(texts.texts) if _exchangeable(text.split())]
        seeds = [rng.derive_seed("swapped", texts.texts[i]) for i in rows]
        swapped = np.array([key % 2 for key in seeds], np.int64)
        given = [
            exchanged(texts.texts[i], key // 2) if key % 2 else texts.texts[i]
            for i, key in zip(rows, seeds, strict=True)
        ]
        columns = {"swapped": swapped, "package": texts.columns["package"][rows]}
        return Texts(given, [texts.names[i] for i in rows], columns=columns)


def exchanged(sentence: str, seed: int) -> str:
    """The sentence with two adjacent words swapped, at a position chosen by `seed`."""
    words = sentence.split()
    places = _exchangeable(words)
    i = places[seed % len(places)]
    words[i], words[i + 1] = words[i + 1], words[i]
    return " ".join(words)


def _exchangeable(words: list[str]) -> list[int]:
    """Indices of words that can be swapped with the next without changing the bag of words: lowercase words without
    punctuation, not the first."""
    plain = [word.isalpha() and word.islower() for word in words]
    return [i for i in range(1, len(words) - 1) if plain[i] and plain[i + 1] and words[i] != words[i + 1]]


def make(packages: dict[str, Path], per_package: int) -> dict[str, np.ndarray]:
    """sentences: UTF-8 bytes, one per line; split, package and name [N] of each."""
    table = {"sentences": [], "split": [], "package": [], "name": []}
    seen: set[str] = set()
    most = ceil(_PER_MODULE * per_package)
    # the progress bar counts packages: the number of modules read is not known in advance
    for package, folder in track(packages.items(), "reading docstrings", len(packages)):
        taken = Counter()
        modules = {f"{package}/{path.relative_to(folder).as_posix()}": path for path in _modules(folder)}
        for module in sorted(modules, key=rng.derive_seed):  # in pseudo-random order
            # a sentence of several modules belongs to the first
            new = [s for s in dict.fromkeys(_sentences(modules[module])) if s.lower() not in seen]
            new = new[: min(most, per_package - taken.total())]
            seen.update(s.lower() for s in new)
            # to the split in which the package is furthest below its share
            split = max(SHARES, key=lambda name: SHARES[name] * (taken.total() + len(new)) - taken[name])
            taken[split] += len(new)
            table["sentences"] += new
            table["split"] += [split] * len(new)
            table["package"] += [package] * len(new)
            table["name"] += [f"{module}, sentence {i}" for i in range(len(new))]
            if taken.total() >= per_package:
                break
    joined = "\n".join(table.pop("sentences")).encode()
    return {
        "sentences": np.frombuffer(joined, np.uint8),
        **{key: np.array(values) for key, values in table.items()},
    }


def _folder(package: str) -> Path | None:
    spec = find_spec(package)  # imports nothing for a top-level package
    return Path(spec.origin).parent if spec and spec.origin else None


def _modules(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*.py") if not _NO_PROSE.intersection(p.relative_to(folder).parts))


def _sentences(module: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SyntaxWarnings of the parsed module, such as invalid escapes
        try:
            tree = ast.parse(module.read_bytes())
        except (SyntaxError, ValueError):  # templates, or code for other Python versions
            return
    nodes = [tree]
    for node in nodes:
        yield from prose(ast.get_docstring(node, clean=False) or "")
        nodes += [child for child in node.body if isinstance(child, _DOCUMENTED)]


_DOCUMENTED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_RULE = re.compile(r"(\W)\1\1+$")  # the underline of a heading
_ITEM = re.compile(r"([-*+\u2022]|\d+[.)]|[*\w]+( ?\([^)]*\))?:)\s+(?=[A-Z])")  # a list item, or an argument
_NO_LINE = re.compile(r"\.\. |:\w|\||[*\w][\w, *]* ?:( |$)|@|[-*+] ")
_ROLE = re.compile(r":[\w:]+:(?=`)")
_CITATION = re.compile(r"\s*\[\w+\]_")
_LINK = re.compile(r"`([^`<]+)<[^`]*>`__?")
_END = re.compile(r"(?<=[a-z)][.!?]) +(?=[A-Z])")
_SENTENCE = re.compile(r"[A-Z][A-Za-z',;:()\- ]*[a-z)][.!?]")
_ENGLISH = set("the a an of to is are in for with by and or if as on be this that from it".split())  # noqa: SIM905


def prose(docstring: str) -> Iterator[str]:
    """The plain English sentences of a docstring: 5 to 30 words each, without code, tables, formulas, links and
    identifiers."""
    for paragraph in _paragraphs(docstring):
        text = _CITATION.sub("", _LINK.sub(r"\1", _ROLE.sub("", paragraph))).replace("``", "`")
        text = re.sub(r"[`*\"]", "", re.sub(r"`~?([\w.]*\.)?(\w+)`", r"\2", text))
        for sentence in _END.split(" ".join(text.split())):
            words = sentence.split()
            if not (5 <= len(words) <= 30 and _SENTENCE.fullmatch(sentence)):
                continue
            if len(_ENGLISH.intersection(w.lower() for w in words)) >= 2 and sentence.count("(") == sentence.count(")"):
                yield sentence


def _paragraphs(docstring: str) -> Iterator[str]:
    """Paragraphs: consecutive lines of one indent, or a list item with its indented continuation."""
    lines, run, depth = cleandoc(docstring).split("\n"), [], 0
    hangs, session, code = False, False, None
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        indent, text = len(line) - len(line.lstrip()), line.strip()
        if code is not None and text and indent <= code:
            code = None  # the indented block under "::" or a directive has ended
        session = text.startswith(">>>") or (session and text != "")  # with its output
        item = _ITEM.match(text)
        heading = _RULE.match(text) or _RULE.match(after.strip())
        skipped = code is not None or session or not text or heading or (not item and _NO_LINE.match(text))
        hangs = hangs and indent > depth
        if run and (skipped or item or (indent != depth and not hangs)):
            yield " ".join(run)
            run = []
        if not skipped:
            run.append(text[item.end() :] if item else text)
            depth = indent
        hangs = item is not None
        if code is None and (text.endswith("::") or text.startswith(".. ")):
            code = indent
    if run:
        yield " ".join(run)
