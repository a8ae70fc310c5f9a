"""The demo over three seeds: does pretraining beat the untrained encoder and raw features?"""

from bench import measure

measure("demo", __doc__, data=False)
