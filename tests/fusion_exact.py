"""What fused replies must be distributed as: computed without caches, in float64, token by token."""

import numpy as np
import torch
from scipy.stats import chi2


def rows(members, ids):
    """Each model's log probabilities after `ids`: N V."""
    with torch.inference_mode():
        logits = [member.model(torch.tensor([ids])).logits[0, -1].double() for member in members]
    return np.stack([one.log_softmax(-1).numpy() for one in logits])


def drawn_from(logprobs, temperature, top_p):
    """The nucleus by its definition."""
    sharp = np.exp(logprobs / temperature)
    sharp /= sharp.sum()
    kept, total = np.zeros_like(sharp), 0.0
    for token in np.argsort(-sharp, kind="stable"):
        if total >= top_p:
            break
        kept[token], total = sharp[token], total + sharp[token]
    return kept / kept.sum()


def replies(prompt, blend, members, length, temperature, top_p, written=()):
    """Every reply of `length` tokens that can be drawn, as its ids, with its exact probability."""
    if len(written) == length:
        return {written: 1.0}
    kept = drawn_from(blend(rows(members, [*prompt, *written])), temperature, top_p)
    return {
        ids: kept[token] * probability
        for token in np.flatnonzero(kept).tolist()
        for ids, probability in replies(prompt, blend, members, length, temperature, top_p, (*written, token)).items()
    }


def surprise(found, expected, runs):
    """The p-value of Pearson's chi-square; cells that expect fewer than five are pooled."""
    large = [cell for cell in expected if expected[cell] * runs >= 5]
    counts = [(found[cell], expected[cell] * runs) for cell in large]
    counts.append((runs - sum(seen for seen, _ in counts), runs - sum(due for _, due in counts)))
    statistic = sum((seen - due) ** 2 / max(due, 1e-9) for seen, due in counts if seen or due > 1e-6)
    return chi2.sf(statistic, len(counts) - 1)
