"""BERT on WikiText-2."""

from bench import measure

measure("wikitext", __doc__, data=True)
