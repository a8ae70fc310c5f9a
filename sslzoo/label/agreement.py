"""How well clusters agree with the classes, such as phones, of the same frames."""

import numpy as np


def agreement(classes: np.ndarray, clusters: np.ndarray) -> dict:
    """Phone purity, cluster purity and phone-normalised mutual information (HuBERT, Hsu et al. 2021, section V-A) of
    frames with a class y and a cluster z [N] each, from their joint distribution p(y, z):

        phone_purity    sum over z of max over y of p(y, z)    accuracy if each cluster is mapped to one class
        cluster_purity  sum over y of max over z of p(y, z)    accuracy if each class is mapped to one cluster
        pnmi            I(y; z) / H(y)                         0 to 1; None if there is only one class
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
