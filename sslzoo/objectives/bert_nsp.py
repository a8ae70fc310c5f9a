"""BERT as it was published: masked word pieces, and whether one part of a row goes on with the other (1810.04805)."""

from sslzoo.objectives.sentence_pairs import SentencePairs


class BERTNextSentence(SentencePairs):
    """BERT's both tasks (section 3.1, tasks 1 and 2). A row is two runs of sentences; in half of the rows the second is
    not what follows the first, but from another document."""

    pairs = "next_sentence"
