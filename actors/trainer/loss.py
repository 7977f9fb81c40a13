"""The loss of one micro-batch: summed over its trained tokens, computed only where there are any.

Guarantees that padding and masked tokens have no part in it.

Letters: B examples, T tokens of the longest, K positions at which any example has a trained token next, V vocabulary.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from actors.trainer.tokenised_batch import TokenisedBatch

UNTRAINED = -100


def trained_loss(model: Any, tokens: TokenisedBatch, numbers: list[int]) -> torch.Tensor:
    """Nats, summed over the trained tokens of the windows ``numbers``."""
    ids, targets, mask = tensors(tokens, numbers)
    positions = (targets != UNTRAINED).any(dim=0).nonzero().squeeze(1)  # (K)
    device = next(model.parameters()).device
    ids, mask = ids.to(device), mask.to(device)
    if takes_positions(type(inner(model))):
        # The vocabulary is the widest thing there is; a prompt's logits are never looked at.
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=positions.to(device)).logits  # (B, K, V)
    else:
        logits = model(input_ids=ids, attention_mask=mask).logits[:, positions.to(device)]
    wanted = targets[:, positions].to(device)  # (B, K)
    return torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), wanted.flatten(), ignore_index=UNTRAINED, reduction="sum"
    )


def tensors(tokens: TokenisedBatch, numbers: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, targets and attention mask, each (B, T), padded on the right.

    ``targets[b, t]`` is the token that follows position t if it is trained. What stands in the padding is never looked
    at: it comes after everything, and is masked.
    """
    width = max(tokens.lengths[number] for number in numbers)
    ids = torch.zeros(len(numbers), width, dtype=torch.long)
    targets = torch.full((len(numbers), width), UNTRAINED, dtype=torch.long)
    mask = torch.zeros(len(numbers), width, dtype=torch.long)
    for row, number in enumerate(numbers):
        window, trained = tokens.window(number)
        length = len(window)
        ids[row, :length] = torch.tensor(window, dtype=torch.long)
        mask[row, :length] = 1
        taught = torch.tensor(list(trained[1:]), dtype=torch.bool)
        targets[row, : length - 1][taught] = ids[row, 1:length][taught]
    return ids, targets, mask


def inner(model: Any) -> Any:
    """The transformers model under the adapter."""
    return model.get_base_model()


def takes_positions(kind: type[Any]) -> bool:
    """Can this kind of model be told at which positions logits are wanted?"""
    return "logits_to_keep" in inspect.signature(kind.forward).parameters
