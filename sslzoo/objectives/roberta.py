"""RoBERTa: masked pieces with dynamic masking and full rows (Liu et al. 2019, 1907.11692)."""

from typing import Any

from sslzoo.errors import ConfigError
from sslzoo.objectives.bert import BERT


class RoBERTa(BERT):
    """BERT's loss on masked pieces only, without next sentence prediction (section 4.2). A row's mask changes each time
    it is read (section 4.1), and it is filled with whole sentences, across document boundaries or within one.

    rows: `FullSentences` or `DocSentences`. Its vocabulary is byte-level (`data.tokens=byte_bpe`, section 4.4).
    """

    packs = False  # its rows are already full

    def __init__(self, encoder, data, mask: Any, rows: Any, eps: float = 1e-5):
        super().__init__(encoder, data, mask, eps)
        if getattr(rows, "pairs", "") is not None:
            raise ConfigError(
                f"objective.rows: {type(rows).__name__} makes pairs, and RoBERTa reads rows of one part: set "
                "objective/rows=full_sentences or doc_sentences"
            )
        self.rows = rows
