"""Every speech objective on `spoken`, and on the real speech of FSDD, Speech Commands and LibriSpeech, over three seeds.

Each is beside its untrained encoder, the raw input, and a supervised run of as many steps (entry `supervised`, column
`adapted`). Runs end at their last step, and the test set is read once. Seed by seed, so that every figure is there early
and its spread later. Stopped anywhere, the same command goes on. About five hours on two cores.
"""

import sys

from bench import arguments, compare

COMPARISONS = ("ladder_spoken", "ladder_speech")

if __name__ == "__main__":
    parser = arguments(__doc__, data=True)
    parser.add_argument("--only", choices=COMPARISONS, action="append", help="one comparison; may be said again")
    said = parser.parse_args()
    seeds, codes = said.seeds.split(","), []
    for number in range(1, len(seeds) + 1):
        for name in said.only or COMPARISONS:
            codes.append(compare(name, ",".join(seeds[:number]), said.data))
    sys.exit(max(codes))
