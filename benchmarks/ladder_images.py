"""Every image objective on a fifth of CIFAR-10, over three seeds: for a small residual network, and for a small ViT.

Each is beside its untrained encoder, the raw input, and a supervised run of as many steps (entry `supervised`, column
`adapted`). Runs end at their last step, and the test set is read once. Seed by seed, so that every figure is there
early and its spread later. Stopped anywhere, the same command goes on. About five hours on two cores.
"""

from bench import seed_by_seed

COMPARISONS = ("ladder_images_resnet", "ladder_images_vit")

if __name__ == "__main__":
    seed_by_seed(COMPARISONS, __doc__)
