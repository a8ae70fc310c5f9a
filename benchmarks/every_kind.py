"""One objective of every kind, on images, speech and text: six comparisons, over three seeds.

Seed by seed, so that every figure is there early and its spread later. Stopped anywhere, the same command goes on.
"""

from bench import seed_by_seed

COMPARISONS = ("kinds_spoken", "kinds_cifar10", "kinds_text", "kinds_speech", "kinds_mnist", "shakespeare")

if __name__ == "__main__":
    seed_by_seed(COMPARISONS, __doc__)
