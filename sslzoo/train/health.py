"""Statistics of a batch's representations, over all ranks, that show collapse."""

from sslzoo import distributed
from sslzoo.nn import health
from sslzoo.train.callback import StepCallback


class FeatureHealth(StepCallback):
    """Logs `feature_std` and `feature_rank` of the representations that an objective returns, gathered over ranks: with
    the few rows of one process, feature_rank would always be low."""

    def after_step(self, trainer, module) -> None:
        if module.logged and module.features is not None:
            features, _ = distributed.all_gather(module.features.float())
            module.logged |= {name: float(value) for name, value in health.representation_health(features).items()}
