"""Recurrent networks over padded batches."""

import torch
from torch import Tensor, nn

from sslzoo.nn.dropout import SeededDropout


class LSTMStack(nn.Module):
    """Layers of LSTM (Hochreiter and Schmidhuber 1997), each followed by dropout. With both_ways, a second LSTM reads
    each row from its own end, so padding changes nothing (torch's packed sequences read lengths from the device).

    input_dim, hidden: sizes of the input and of each direction's state. dim: of the output.
    """

    def __init__(self, input_dim: int, hidden: int, depth: int, both_ways: bool = True, dropout: float = 0.0):
        super().__init__()
        self.dim = hidden * (2 if both_ways else 1)
        sizes = [input_dim, *[self.dim] * (depth - 1)]
        self.ahead = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes)
        self.back = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True) for size in sizes if both_ways)
        self.dropouts = nn.ModuleList(SeededDropout(dropout, f"lstm {i}") for i in range(depth))

    def forward(self, x: Tensor, lengths: Tensor, seeds: Tensor) -> Tensor:
        """x [B, T, D], lengths [B] and seeds [B] on the host -> [B, T, dim]; what is in the padding has no meaning."""
        place = torch.arange(x.shape[1]).expand(len(x), -1)
        turned = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
        turned = turned.to(x.device, non_blocking=True)[..., None]
        for depth, dropout in enumerate(self.dropouts):
            found = [self.ahead[depth](x)[0]]
            if len(self.back):
                y = self.back[depth](x.gather(1, turned.expand(x.shape)))[0]
                found.append(y.gather(1, turned.expand(y.shape)))
            x = dropout(torch.cat(found, 2), seeds)
        return x
