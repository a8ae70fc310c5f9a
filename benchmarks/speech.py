"""wav2vec 2.0 over the waveform, on FSDD, Speech Commands and LibriSpeech together."""

from bench import measure

measure("speech", __doc__, data=True)
