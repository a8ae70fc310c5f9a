"""BERT as published: masked word pieces and next sentence prediction (1810.04805)."""

from sslzoo.objectives.sentence_pairs import SentencePairs


class BERTNextSentence(SentencePairs):
    """Both tasks of BERT (section 3.1, tasks 1 and 2). A row is two spans of sentences; in half of the rows the second
    does not follow the first, but is from another document."""

    pairs = "next_sentence"
