"""GPT and BERT on the characters of tiny Shakespeare."""

from bench import measure

measure("shakespeare", __doc__, data=True)
