"""RoBERTa: BERT's masked pieces, of full rows, anew each time (Liu et al. 2019, 1907.11692)."""

from typing import Any

from sslzoo.errors import ConfigError
from sslzoo.objectives.bert import BERT


class RoBERTa(BERT):
    """BERT's loss of masked pieces alone, without next sentences (section 4.2). A row has another mask each time that it
    is read (section 4.1), and is full of whole sentences, over the ends of documents or within them.

    rows: `FullSentences` or `DocSentences`. Its vocabulary is of bytes (`data.tokens=byte_bpe`, section 4.4).
    """

    packs = False  # its rows are full as they are

    def __init__(self, encoder, data, mask: Any, rows: Any, eps: float = 1e-5):
        super().__init__(encoder, data, mask, eps)
        if getattr(rows, "pairs", "") is not None:
            raise ConfigError(
                f"objective.rows: {type(rows).__name__} makes pairs, and RoBERTa reads rows of one part: set "
                "objective/rows=full_sentences or doc_sentences"
            )
        self.rows = rows
