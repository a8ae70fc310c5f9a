import torch

from sslzoo.nn.metrics import choice_logs, target_rank


def test_a_rank_counts_what_scored_as_high_or_higher():
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [0.0, 5.0, 7.0]])
    targets = torch.tensor([0, 1, 0])
    assert target_rank(logits, targets).tolist() == [0, 1, 2], "a tie is not the right answer"
    assert target_rank(logits).tolist() == [0, 1, 2] and target_rank(logits[:0]).tolist() == []
    assert target_rank(logits.view(1, 3, 3), targets[None]).tolist() == [[0, 1, 2]]
    torch.testing.assert_close(choice_logs(logits, targets, chance=0.5)["accuracy"], torch.tensor(1 / 3))
