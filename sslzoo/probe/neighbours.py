"""Probing without training: the labels of the nearest neighbours, layer by layer."""

from sslzoo.features.frozen import Source
from sslzoo.probe.evaluate import Probe, Read, described, targets_of
from sslzoo.probe.tasks import TaskData
from sslzoo.tasks.metrics import score


class NearestNeighbours(Probe):
    """`k` weighted nearest neighbours by cosine in features standardised on train, in the manner of X-ARES
    (2505.16369), which has no hyper-parameter but the layer: that with the best score on valid, the last of equals,
    is evaluated once on test. Nothing is fitted.
    """

    suffix = "-knn"

    def __init__(self, k: int = 10, temperature: float = 0.07, max_gb: float = 4.0):
        super().__init__(k=k, temperature=temperature, max_gb=max_gb)

    def _measure(self, metric: str, question: TaskData, source: Source, read: Read, device) -> dict:
        truth = {name: part.labels for name, part in question.parts.items()}
        targets, decide = targets_of(truth["train"], question.classes)
        train, valid, scale = self._read(question, source, read, device)
        planes = [self._neighbours(train[i], targets, question.classes) for i in range(len(train))]
        each = [score(metric, truth["valid"], decide(one(valid[i]))) for i, one in enumerate(planes)]
        chosen = max(range(len(each)), key=lambda i: (each[i], i))

        # the layer is chosen: the only place where test is read
        test = scale(read(question.parts["test"])).to(device)
        predicted = decide(planes[chosen](test[chosen]))
        return {
            "knn": {
                "test": score(metric, truth["test"], predicted),
                "valid": each[chosen],
                "k": planes[chosen].k,
                "temperature": self.temperature,
                "layer": source.layers[chosen],
                "layers": source.layers,
                "by_layer": {"valid": each},
            },
            **described(metric, question, predicted),
        }
