"""What a run keeps of its objective's look at the task."""

from collections.abc import Callable

import torch
from torch import Tensor

from sslzoo.data.base import continuation


def portable(shown: dict, describe: Callable[[Tensor], str]) -> dict:
    """What `Objective.visualize` returned, in host memory, each tensor without the storage that it is a part of. Ids
    of text get what they say, which the report cannot know: `words` {id: text}, and of `text` int64 [T], of which the
    first `given` were given, `texts`: [what was given, what was added].

    describe: of ids, their text; see `Data.describe`.
    """
    kept = {k: x.detach().cpu().clone() if isinstance(x, Tensor) else x for k, x in shown.items()}
    if "ids" in kept:
        used = torch.cat([kept["ids"].flatten(), kept["prediction"].flatten()]).unique()
        kept["words"] = {int(i): describe(i) for i in used}
    if "text" in kept:
        given, more = kept["text"][: kept["given"]], kept["text"][kept["given"] :]
        kept["texts"] = continuation(describe, given, more)
    return kept
