"""SimCLR and RotNet on a fifth of CIFAR-10."""

from bench import measure

measure("cifar10", __doc__, data=True)
