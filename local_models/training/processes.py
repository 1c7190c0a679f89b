"""The processes that train one model together: those that `accelerate launch` or `torchrun` began, else this one."""

from __future__ import annotations

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """Who we are among them. They talk by NCCL where there are GPUs, else by gloo."""
    return PartialState(cpu=not torch.cuda.is_available())
