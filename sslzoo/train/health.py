"""The health of what an encoder makes of a batch, over all ranks."""

from sslzoo import distributed
from sslzoo.nn import health
from sslzoo.train.callback import StepCallback


class FeatureHealth(StepCallback):
    """Logs `feature_std` and `feature_rank` of the representations that an objective returns. They are those of the
    whole batch: of the few rows of one rank the rank would be low whatever they are."""

    def after_step(self, trainer, module) -> None:
        if module.logged and module.features is not None:
            features, _ = distributed.all_gather(module.features.float())
            module.logged |= {name: float(value) for name, value in health.representation_health(features).items()}
