"""What a log-mel frame goes through before the linear layer."""

import pytest
import torch
from conftest import tiny

from sslzoo.build import build
from sslzoo.encoders.speech import Spectrogram


def front(norm: str) -> Spectrogram:
    torch.manual_seed(0)
    return Spectrogram(8, 8000, n_mels=20, norm=norm)


def frames() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 7, 20, generator=torch.Generator().manual_seed(1)), torch.tensor([7, 5])


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_a_frames_energy_reaches_the_tokens_unless_it_is_normed_away(norm):
    """A louder frame is one with more in every band."""
    x, lengths = frames()
    tokens, _ = front(norm).project(x, lengths)
    louder, _ = front(norm).project(x + 1.5, lengths)
    assert torch.allclose(tokens, louder, atol=1e-5) == (norm == "layer")


def test_without_a_norm_tokens_are_linear_in_the_frames():
    x, lengths = frames()
    made = front("none")
    torch.testing.assert_close(made.project(x, lengths)[0], x @ made.linear.weight.T + made.linear.bias)
    assert made.normalize(x) is x


@pytest.mark.parametrize("objective", ["apc", "mockingjay", "tera", "best_rq", "wav2vec2", "byol_audio"])
def test_objectives_take_it(objective):
    job = build(tiny(objective, "+encoder.frontend.norm=none"))
    assert isinstance(job.encoder.frontend.norm, torch.nn.Identity)
    assert all(not name.startswith("frontend.norm") for name in job.encoder.state_dict())
