"""Converts the tokenizer of a transformers folder to this project's, which has its special tokens at ids 0 to 4.

The source is tokenizer.json, or the older vocabulary files. Ids are permuted and the five special tokens renamed; the
rows of the encoder's embeddings are permuted alike (see `names.Rows`), so that every text keeps its embedding.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from sslzoo.data.base import SPECIALS
from sslzoo.data.tokenizer import WORDS, Tokenizer
from sslzoo.errors import UserError
from sslzoo.interop.names import Rows
from sslzoo.run import write_json

ROLES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")  # of WORDS, in their order
PADDED = 0.9  # of the rows of an embedding, at least so many are of tokens: some have more, up to a round number
FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
USUAL = {  # the special tokens of a family, if no file names them
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "albert": ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"),
    "roberta": ("<pad>", "<unk>", "<s>", "</s>", "<mask>"),
    "gpt2": (None, None, None, "<|endoftext|>", None),
}


def read(folder: Path, family: str, size: int) -> tuple[Tokenizer, Rows]:
    """The tokenizer of a folder with this project's ids, and the mapping of ids. size: rows of the encoder's embedding.
    Raises UserError if there is no tokenizer, or if it has more ids than the embedding or far fewer (`PADDED`)."""
    said = _json(folder / "special_tokens_map.json") | _json(folder / "tokenizer_config.json")
    backend = _backend(folder, said, family)
    vocabulary = backend.get_vocab(with_added_tokens=True)
    count = max(vocabulary.values()) + 1
    if not PADDED * size - 128 <= count <= size:
        raise UserError(
            f"{folder}: its tokenizer has {count:,} ids, and its encoder embeds {size:,}: they do not "
            "belong together — save both with transformers' save_pretrained from the same model"
        )
    specials = _specials(said, family, vocabulary)
    rows = Rows(tuple(None if token is None else vocabulary[token] for token in specials), size)
    return Tokenizer(_moved(backend, specials, rows, folder)), rows


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _backend(folder: Path, said: dict, family: str) -> Backend:
    """The `tokenizers.Tokenizer` that transformers builds from the folder's files."""
    try:
        if (folder / "tokenizer.json").exists():
            backend = Backend.from_file(str(folder / "tokenizer.json"))
            if isinstance(backend.normalizer, normalizers.BertNormalizer):  # transformers heeds the settings beside it
                _set_normalizer(backend, said)
            return backend
        if (folder / "vocab.txt").exists():
            return _wordpiece(folder / "vocab.txt", said)
        if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
            return _byte_bpe(folder, said, family)
    except UserError:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{folder}: its tokenizer cannot be read: {' '.join(str(error).split())}") from error
    raise UserError(
        f"{folder} has no tokenizer (tokenizer.json; vocab.txt; vocab.json with merges.txt): write one there with "
        "transformers: AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER)"
    )


def _set_normalizer(backend: Backend, said: dict) -> None:
    keys = {"do_lower_case": "lowercase", "strip_accents": "strip_accents"}
    keys["tokenize_chinese_chars"] = "handle_chinese_chars"
    state = json.loads(backend.normalizer.__getstate__())
    state |= {ours: said[theirs] for theirs, ours in keys.items() if theirs in said}
    backend.normalizer = normalizers.BertNormalizer(**{k: v for k, v in state.items() if k != "type"})


def _wordpiece(path: Path, said: dict) -> Backend:
    unk = _content(said.get("unk_token")) or "[UNK]"
    tokens = path.read_text(encoding="utf-8").split("\n")
    vocabulary = {token.rstrip("\r"): i for i, token in enumerate(tokens[:-1] if tokens[-1] == "" else tokens)}
    backend = Backend(models.WordPiece(vocabulary, unk_token=unk))
    backend.normalizer = normalizers.BertNormalizer(strip_accents=None, lowercase=True)
    _set_normalizer(backend, said)
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    first, last = (_content(said.get(role)) or word for role, word in (("cls_token", "[CLS]"), ("sep_token", "[SEP]")))
    backend.post_processor = processors.BertProcessing((last, vocabulary[last]), (first, vocabulary[first]))
    return backend


def _byte_bpe(folder: Path, said: dict, family: str) -> Backend:
    backend = Backend(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    space = bool(said.get("add_prefix_space", False))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=space), decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel()
    if family == "roberta":
        vocabulary = backend.get_vocab()
        last, first = _content(said.get("sep_token")) or "</s>", _content(said.get("cls_token")) or "<s>"
        backend.post_processor = processors.RobertaProcessing((last, vocabulary[last]), (first, vocabulary[first]))
    return backend


def _content(token: Any) -> str | None:
    """The text of a token in transformers' JSON, where it is a string, or an object with settings."""
    return token.get("content") if isinstance(token, dict) else token


def _specials(said: dict, family: str, vocabulary: dict[str, int]) -> list[str | None]:
    """The folder's special tokens for the five `ROLES`, None for a missing one. A token gets one role only: GPT-2's
    <|endoftext|>, which ends a text, becomes [SEP]."""
    usual = USUAL.get(family, USUAL["bert"])
    found: list[str | None] = [_content(said.get(role)) or word for role, word in zip(ROLES, usual, strict=True)]
    if said.get("sep_token") is None and said.get("eos_token") is not None:
        found[3] = _content(said["eos_token"])
    taken: dict[str, int] = {}
    for place in (2, 3, 0, 4, 1):
        token = found[place]
        if token is None or token not in vocabulary or token in taken:
            found[place] = None
        else:
            taken[token] = place
    return found


def _moved(backend: Backend, specials: list[str | None], rows: Rows, folder: Path) -> Backend:
    """The tokenizer with permuted ids and renamed special tokens."""
    around = _template(backend, folder)
    state = json.loads(backend.to_str())
    ids, words = rows.ids(), {token: WORDS[i] for i, token in enumerate(specials) if token is not None}
    if clash := [word for word in WORDS if word in backend.get_vocab() and word not in words]:
        raise UserError(f"{folder}: its tokenizer has a token {clash[0]} that is none of its specials")
    _move_vocabulary(state["model"], ids, words)
    added = [token for token in state["added_tokens"] if token["content"] not in words]
    for token in added:
        token["id"] = ids[token["id"]]
    same = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    own = [{"id": i, "content": word, **same} for i, word in enumerate(WORDS)]
    state["added_tokens"] = [*own, *sorted(added, key=lambda token: token["id"])]
    state["truncation"] = state["padding"] = None
    state["post_processor"] = _post_processor(state["post_processor"], around, ids)
    moved = Backend.from_str(json.dumps(state))
    wanted = {words.get(token, token): ids[i] for token, i in backend.get_vocab().items()}
    if moved.get_vocab() != wanted | {word: i for i, word in enumerate(WORDS)}:
        raise UserError(f"{folder}: the ids of its tokenizer's added tokens do not follow those of its vocabulary")
    return moved


def _move_vocabulary(model: dict, ids: dict[int, int], words: dict[str, str]) -> None:
    if isinstance(model["vocab"], dict):
        moved = {words.get(token, token): ids[i] for token, i in model["vocab"].items()}
        moved |= {word: i for i, word in enumerate(WORDS)}
        model["vocab"] = dict(sorted(moved.items(), key=lambda item: item[1]))
        if model.get("unk_token") is not None:
            model["unk_token"] = words.get(model["unk_token"], model["unk_token"])
        return
    placed = {ids[i]: [words.get(token, token), score] for i, (token, score) in enumerate(model["vocab"])}
    placed = {i: [word, 0.0] for i, word in enumerate(WORDS)} | placed
    model["vocab"] = [placed[i] for i in sorted(placed)]
    if model.get("unk_id") is not None:
        model["unk_id"] = ids[model["unk_id"]]


def _template(backend: Backend, folder: Path) -> tuple[list[int], list[int], list[int]]:
    """The ids that the folder's post-processor puts before a text, between two texts and after the last."""
    backend.no_padding()
    backend.no_truncation()
    found = backend.encode("a", "a")
    if {0, 1} - set(found.sequence_ids):
        raise UserError(f"{folder}: its tokenizer makes nothing of the letter a")
    runs: list[list[int]] = [[], [], []]
    place = 0
    for i, sequence in zip(found.ids, found.sequence_ids, strict=True):
        if sequence is None:
            runs[place].append(i)
        else:
            place = sequence + 1
    return runs[0], runs[1], runs[2]


def _post_processor(theirs: dict | None, around: tuple[list[int], ...], ids: dict[int, int]) -> dict:
    """A TemplateProcessing with the new ids; byte-level pieces pass ByteLevel first, which trims offsets."""
    before, between, after = ([WORDS[ids[i]] for i in run if ids[i] < SPECIALS] for run in around)
    if [len(before), len(between), len(after)] != [len(run) for run in around]:
        raise UserError("its tokenizer puts other tokens around a text than those that it calls its specials")

    def pieces(*parts: list[str] | str) -> list[dict]:
        flat = [word for part in parts for word in ([part] if isinstance(part, str) else part)]
        return [
            {"Sequence": {"id": word, "type_id": 0}} if word in "AB" else {"SpecialToken": {"id": word, "type_id": 0}}
            for word in flat
        ]

    used = {word: {"id": word, "ids": [WORDS.index(word)], "tokens": [word]} for word in [*before, *between, *after]}
    template = {
        "type": "TemplateProcessing",
        "single": pieces(before, "A", after),
        "pair": pieces(before, "A", between, "B", after),
        "special_tokens": used,
    }
    text = json.dumps(theirs)
    if '"ByteLevel"' not in text and '"RobertaProcessing"' not in text:
        return template
    trim = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {"type": "Sequence", "processors": [trim, template]}


def write(path: Path, out: Path, frontend: dict[str, Any]) -> None:
    """The files by which AutoTokenizer reads a run's tokenizer.json: its ids, special tokens around texts, token types.
    frontend: the node of the encoder's."""
    tokenizer = Tokenizer.load(path)
    before, between, after = ([WORDS[i] for i in x] for x in (tokenizer.before, tokenizer.between, tokenizer.after))
    segments = frontend.get("segments", 2) > 1
    second = ":1" if segments else ""
    pieces = [*before, "$A", *between, f"$B{second}", *(f"{word}{second}" for word in after)]
    used = [(word, i) for i, word in enumerate(WORDS) if word in {*before, *between, *after}]
    backend = Backend.from_file(str(path))
    template = processors.TemplateProcessing(" ".join([*before, "$A", *after]), " ".join(pieces), used)
    trims = isinstance(backend.decoder, decoders.ByteLevel)
    backend.post_processor = processors.Sequence([processors.ByteLevel(), template]) if trims else template
    backend.save(str(out / "tokenizer.json"))
    said: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", **dict(zip(ROLES, WORDS, strict=True))}
    said |= {"model_max_length": frontend["max_tokens"], "clean_up_tokenization_spaces": False}
    said |= {"model_input_names": ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"]}
    (out / "tokenizer_config.json").write_text(json.dumps(said, indent=1), encoding="utf-8")


def write_symbols(symbols: list[str], out: Path) -> bool:
    """Write the files of a Wav2Vec2CTCTokenizer for characters, of which the first three are <pad>, <eos> and <unk>.
    False, and nothing, for symbols that are no characters, such as phones."""
    if any(len(name) != 1 for name in symbols[3:]):
        return False
    between = "|"  # what stands for the space there
    write_json(out / "vocab.json", {between if name == " " else name: i for i, name in enumerate(symbols)})
    said: dict[str, Any] = {
        "pad_token": symbols[0],
        "eos_token": symbols[1],
        "bos_token": symbols[1],
        "unk_token": symbols[2],
    }
    said |= {"word_delimiter_token": between, "do_lower_case": False, "processor_class": "Wav2Vec2Processor"}
    write_json(out / "tokenizer_config.json", {"tokenizer_class": "Wav2Vec2CTCTokenizer", **said})
    return True
