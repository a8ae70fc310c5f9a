"""An upstream of s3prl (github.com/s3prl/s3prl): this file's `UpstreamExpert` has the interface that its downstream
tasks use, so that its own SUPERB runs on a run of sslzoo. Copy or import it as s3prl/upstream/sslzoo/expert.py, with a
hubconf.py of

    from sslzoo.s3prl import sslzoo_local

and run `python run_downstream.py -u sslzoo_local -k RUN …`. s3prl itself is not needed here.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

import sslzoo
from sslzoo.errors import UserError

S3PRL_RATE = 16000  # Hz of the waves that s3prl gives


class UpstreamExpert(nn.Module):
    """ckpt: a run's folder or name, or SOURCE:WHAT (`hf:FOLDER`, see docs/weights.md). Raises UserError for an encoder
    of something else than speech at 16 kHz."""

    def __init__(self, ckpt: str, model_config: str | None = None, root: str = "runs", **_: Any):
        super().__init__()
        self.model = sslzoo.load_encoder(ckpt, root=root)
        rate = self.model.reads.get("sample_rate")
        if self.model.modality != "speech" or rate != S3PRL_RATE:
            of = f"speech at {rate} Hz" if self.model.modality == "speech" else self.model.modality
            raise UserError(f"s3prl gives speech at {S3PRL_RATE} Hz, and {ckpt} is of {of}")

    def get_downsample_rates(self, key: str) -> int:
        """Samples between two frames."""
        return self.model.stride

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Any]:
        """Waves [N_i] -> hidden_states, the trunk's input and each layer's output [B, T, D]; last_hidden_state."""
        lengths = torch.tensor([len(wave) for wave in wavs])
        out = self.model(pad_sequence(list(wavs), batch_first=True), lengths)
        hidden = [h[:, self.model.prefix :] for h in out.hidden]
        return {"hidden_states": hidden, "last_hidden_state": hidden[-1]}


def sslzoo_local(ckpt: str, *args: Any, **kwargs: Any) -> UpstreamExpert:
    """The upstream of a run, as s3prl's hub calls it."""
    return UpstreamExpert(ckpt, *args, **kwargs)
