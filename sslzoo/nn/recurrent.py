"""Recurrent networks over padded batches."""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from sslzoo.nn.dropout import SeededDropout


class LSTMStack(nn.Module):
    """Layers of LSTM (Hochreiter and Schmidhuber 1997), each followed by dropout. In both directions, padding changes
    nothing, as each row is read up to its own end.

    input_dim, hidden: sizes of the input and of each direction's state. dim: of the output.
    """

    def __init__(self, input_dim: int, hidden: int, depth: int, both_ways: bool = True, dropout: float = 0.0):
        super().__init__()
        self.dim = hidden * (2 if both_ways else 1)
        sizes = [input_dim, *[self.dim] * (depth - 1)]
        self.layers = nn.ModuleList(nn.LSTM(s, hidden, batch_first=True, bidirectional=both_ways) for s in sizes)
        self.dropouts = nn.ModuleList(SeededDropout(dropout, f"lstm {i}") for i in range(depth))

    def forward(self, x: Tensor, lengths: Tensor, seeds: Tensor) -> Tensor:
        """x [B, T, D], lengths [B] and seeds [B] on the host -> [B, T, dim], zero in the padding."""
        size = x.shape[1]
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            packed = pack_padded_sequence(x, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
            x = dropout(pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=size)[0], seeds)
        return x
