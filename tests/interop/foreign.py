"""Folders that transformers wrote: small models with random weights,
and tokenizers that were trained on a few lines."""

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

LINES = [
    "The lobster is a large crustacean of the sea.",
    "Lobsters are caught in pots; unbelievably, the pots are baited!",
    "A café by the sea serves the lobster — naïvely boiled, 龙虾 as well.",
] * 3
TEXTS = ["The sea.", "A CAFÉ of lobsters, 龙虾", "unbelievably large pots are caught in the sea, naïvely"]
PAIRS = ["Pots!", "The large crustacean is boiled by the sea", "no"]
POSITIONS = 64
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
FAMILIES = ("bert", "roberta", "albert", "electra", "distilbert", "gpt2")


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Random biases and norms too: a library starts them at 0 and 1, which hides a missing one."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return model


def wordpiece() -> transformers.PreTrainedTokenizerBase:
    """BERT's: [PAD] at 0, the other specials between tokens that nothing becomes."""
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    unused = [f"[unused{i}]" for i in range(4)]
    specials = ["[PAD]", *unused[:3], "[UNK]", "[CLS]", "[SEP]", "[MASK]", unused[3]]
    backend.train_from_iterator(LINES, trainers.WordPieceTrainer(vocab_size=120, special_tokens=specials))
    return transformers.BertTokenizer(vocab=backend.get_vocab(), do_lower_case=True)


def byte_bpe(specials: list[str], last: list[str]) -> Backend:
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder, backend.post_processor = decoders.ByteLevel(), processors.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=specials, initial_alphabet=alphabet)
    backend.train_from_iterator(LINES, trainer)
    backend.add_special_tokens(last)
    return backend


def roberta() -> transformers.PreTrainedTokenizerBase:
    backend = byte_bpe(["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"])
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {
        "cls_token": "<s>",
        "pad_token": "<pad>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", **names, model_max_length=POSITIONS
    )


def gpt2() -> transformers.PreTrainedTokenizerBase:
    backend = byte_bpe([], ["<|endoftext|>"])
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def albert() -> transformers.PreTrainedTokenizerBase:
    """A unigram model, as ALBERT's of SentencePiece is read."""
    backend = Backend(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    backend.decoder = decoders.Metaspace()
    specials = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=specials, unk_token="<unk>")
    backend.train_from_iterator(LINES, trainer)
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    names = zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), specials, strict=True)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **dict(names))


TOKENIZERS = {"roberta": roberta, "gpt2": gpt2, "albert": albert}


def model_of(family: str, size: int, head: bool = True) -> transformers.PreTrainedModel:
    """A model with random weights, its dropout off. head: with a language-model head, which for BERT and ALBERT comes
    with the one for pairs."""
    torch.manual_seed(0)
    sizes = {**BERT, "vocab_size": size, "max_position_embeddings": POSITIONS}
    if family == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=size, n_positions=POSITIONS, n_embd=16, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0
        )
        kinds = transformers.GPT2LMHeadModel, transformers.GPT2Model
    elif family == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=size, max_position_embeddings=POSITIONS, dim=16, n_layers=2, n_heads=4, hidden_dim=40
        )
        kinds = transformers.DistilBertForMaskedLM, transformers.DistilBertModel
    elif family == "roberta":
        config = transformers.RobertaConfig(**sizes | {"max_position_embeddings": POSITIONS + 2}, type_vocab_size=1)
        kinds = transformers.RobertaForMaskedLM, transformers.RobertaModel
    elif family == "albert":
        config = transformers.AlbertConfig(**sizes, embedding_size=8)
        kinds = transformers.AlbertForPreTraining, transformers.AlbertModel
    elif family == "electra":
        config = transformers.ElectraConfig(**sizes, embedding_size=8)
        kinds = transformers.ElectraForMaskedLM, transformers.ElectraModel
    else:
        config = transformers.BertConfig(**sizes)
        kinds = transformers.BertForPreTraining, transformers.BertModel
    return shaken(kinds[0 if head else 1](config)).eval()


def folder_of(family: str, path: Path, head: bool = True, rows: int = 0) -> Path:
    """A folder with a model and a tokenizer. rows: of the embedding, beyond the tokenizer's ids."""
    tokenizer = TOKENIZERS.get(family, wordpiece)()
    model = model_of(family, len(tokenizer) + rows, head)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path
