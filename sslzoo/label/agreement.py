"""How well clusters agree with classes, such as phones, that hold at the same frames."""

import numpy as np


def agreement(classes: np.ndarray, clusters: np.ndarray) -> dict:
    """Of frames with a class and a cluster [N] each: phone purity, cluster purity and phone-normalised mutual
    information (HuBERT, Hsu et al. 2021, section V-A), from the joint counts p(y, z):

        phone_purity    sum over z of max over y of p(y, z)    the accuracy, were each cluster one class
        cluster_purity  sum over y of max over z of p(y, z)    the accuracy, were each class one cluster
        pnmi            I(y; z) / H(y)                         0 to 1; None where there is one class
    """
    names, y = np.unique(classes, return_inverse=True)
    used, z = np.unique(clusters, return_inverse=True)
    joint = np.bincount(y * len(used) + z, minlength=len(names) * len(used)).reshape(len(names), len(used))
    joint = joint / max(joint.sum(), 1)
    of_class = _entropy(joint.sum(1))
    shared = of_class + _entropy(joint.sum(0)) - _entropy(joint)
    return {
        "frames": len(classes),
        "classes": len(names),
        "phone_purity": float(joint.max(0, initial=0).sum()),
        "cluster_purity": float(joint.max(1, initial=0).sum()),
        "pnmi": max(0.0, shared / of_class) if of_class > 0 else None,
    }


def _entropy(share: np.ndarray) -> float:
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())
