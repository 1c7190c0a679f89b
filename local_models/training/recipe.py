"""How a model is trained: what the three stages have in common, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from eot.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """`steps` at most, and no new one after `minutes`; one of the two is enough.

    `lora` is the rank of the adapters that are trained and then merged, 0 for all weights. `batch` rows of `length`
    tokens are read a step by each process, `gather` such batches before the weights are changed. The learning rate
    rises over `warmup` steps and then stays: so a run can be stopped anywhere, and gone on with.
    """

    steps: int = 0
    minutes: float = 0.0
    lora: int = 0
    learning_rate: float = 5e-5
    batch: int = 4
    gather: int = 1
    length: int = 256
    warmup: int = 10
    seed: int = 0
    evaluate_every: int = 20
    save_every: int = 20
    held: int = 16

    def __post_init__(self) -> None:
        if not (self.steps or self.minutes):
            raise InputError("say how long to train: --steps, --tokens or --minutes")
        if min(self.steps, self.minutes, self.lora, self.warmup) < 0 or self.learning_rate <= 0:
            raise InputError(
                "steps, minutes, the rank and the warm-up are not below 0, and the learning rate is above it"
            )
        if min(self.batch, self.gather, self.evaluate_every, self.save_every, self.held) < 1 or self.length < 2:
            raise InputError("batch, gather, evaluate-every, save-every and held are at least 1, and length 2")
