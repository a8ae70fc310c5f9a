"""The health of what an encoder makes of a batch, over all ranks."""

from sslzoo.parts import health, ranks
from sslzoo.train.callback import StepCallback


class FeatureHealth(StepCallback):
    """Logs `feature_std` and `feature_rank` of the representations that an objective returns. They are those of the
    whole batch: of the few rows of one rank the rank would be low whatever they are."""

    def after_step(self, trainer, module) -> None:
        if module.logged and module.features is not None:
            features, _ = ranks.gather(module.features.float())
            module.logged |= {name: float(value) for name, value in health.spread(features).items()}
