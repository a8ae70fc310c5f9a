"""Log-mels as an encoder: its frames against those of one utterance by hand, padding, and as a run."""

import torch
from conftest import compose

from sslzoo.bench.encoders import encoders
from sslzoo.encoders.filterbank import Filterbank
from sslzoo.interop.importing import import_run
from sslzoo.nn.mel import LogMel


def test_frames_are_log_mels_with_differences_standardised_over_the_utterance():
    torch.manual_seed(0)
    wave, encoder = 0.1 * torch.randn(2, 9000), Filterbank(n_mels=20)
    found = encoder(wave, torch.tensor([9000, 5000]))
    mels, _ = LogMel(n_mels=20)(wave[1:, :5000], torch.tensor([5000]))
    x = mels[0].double()
    at = [x[torch.arange(len(x)).add(k).clamp(0, len(x) - 1)] for k in (-2, -1, 1, 2)]
    first = (at[2] - at[1] + 2 * (at[3] - at[0])) / 10
    slow = torch.cat([x, first], 1)
    slow = (slow - slow.mean(0)) / (slow.var(0, correction=0).sqrt() + 1e-5)
    assert found.lengths.tolist()[1] == len(x) and len(found.hidden) == encoder.depth + 1 == 1
    torch.testing.assert_close(found.last[1, : len(x), :40].double(), slow, rtol=1e-4, atol=1e-4)
    assert found.last.shape[2] == encoder.dim == 60 and not list(encoder.parameters())
    alone = encoder(wave[1:, :5000], torch.tensor([5000]))
    torch.testing.assert_close(alone.last[0], found.last[1, : len(x)], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone.pooled[0], found.pooled[1], rtol=1e-5, atol=1e-5)


def test_it_is_a_run_that_has_nothing_to_train(tmp_path):
    run, _ = import_run("class:sslzoo.encoders.filterbank.Filterbank", tmp_path, "fbank")
    [one] = encoders([str(run.folder)], tmp_path, untrained=True)
    assert (one.run.name, one.row, one.modality) == ("fbank", "fbank", "speech")
    from sslzoo.adapt.command import check_adapt
    from sslzoo.run import Run

    for protocol in ("superb_asr", "superb_sid", "superb_asv", "superb_sd"):
        data = "spoken_mixtures" if protocol == "superb_sd" else "spoken"
        config = compose("run=x", f"protocol={protocol}", f"data={data}", command="adapt")
        check_adapt(config, run, Run(tmp_path / "new"))
