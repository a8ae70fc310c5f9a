"""BERT, RoBERTa, ALBERT, ELECTRA and GPT pretrained on 23 novels, and what their features know, over three seeds.

Seed by seed, so that every figure is there early and its spread later. Stopped anywhere, the same command goes on.
"""

import sys

from bench import arguments, compare

COMPARISON = "bert_family"

if __name__ == "__main__":
    said = arguments(__doc__, data=True).parse_args()
    seeds = said.seeds.split(",")
    sys.exit(max(compare(COMPARISON, ",".join(seeds[:number]), said.data) for number in range(1, len(seeds) + 1)))
