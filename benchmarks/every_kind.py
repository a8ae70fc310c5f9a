"""One objective of every kind, on images, speech and text: six comparisons, over three seeds.

Seed by seed, so that every figure is there early and its spread later. Stopped anywhere, the same command goes on.
"""

import sys

from bench import arguments, compare

COMPARISONS = ("kinds_spoken", "kinds_cifar10", "kinds_text", "kinds_speech", "kinds_mnist", "shakespeare")

if __name__ == "__main__":
    parser = arguments(__doc__, data=True)
    parser.add_argument("--only", choices=COMPARISONS, action="append", help="one comparison; may be said again")
    said = parser.parse_args()
    seeds, codes = said.seeds.split(","), []
    for number in range(1, len(seeds) + 1):
        for name in said.only or COMPARISONS:
            codes.append(compare(name, ",".join(seeds[:number]), said.data))
    sys.exit(max(codes))
