"""BERT, RoBERTa, ALBERT, ELECTRA and GPT pretrained on 23 novels, and what their features know, over three seeds.

Seed by seed, so that every figure is there early and its spread later. Stopped anywhere, the same command goes on.
"""

from bench import seed_by_seed

if __name__ == "__main__":
    seed_by_seed(("bert_family",), __doc__)
