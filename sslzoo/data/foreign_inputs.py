"""The data of imported encoders of speech and images: how inputs are read, without items."""

from typing import NoReturn

from sslzoo.data.audio import check_audio
from sslzoo.data.base import Data
from sslzoo.data.image import ImageData
from sslzoo.data.sampler import ByCount
from sslzoo.data.text_inputs import NO_ITEMS
from sslzoo.errors import UserError


class SpeechInputs(Data):
    """Waveforms at `sample_rate` Hz that are passed to an encoder; no splits."""

    modality = "speech"

    def __init__(self, batch: ByCount, sample_rate: int):
        check_audio(sample_rate, None, 0.1)
        self.batch, self.sample_rate = batch, sample_rate

    def split(self, name: str) -> NoReturn:
        raise UserError(NO_ITEMS)


class ImageInputs(ImageData):
    """Images of `size` pixels a side that are passed to an encoder; no splits."""

    def __init__(self, batch: ByCount, size: int, channels: int, mean: list[float], std: list[float]):
        super().__init__("", batch, size, channels, mean, std)

    def split(self, name: str) -> NoReturn:
        raise UserError(NO_ITEMS)
