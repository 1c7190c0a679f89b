"""One process of several with its share of a layer's experts: FILE RANK SIZE, as test_moe_parallel starts it.

FILE holds cases: a layer's settings and weights, and every process's tokens. What this one finds goes to FILE.RANK.
"""

import sys

import torch
from torch import distributed

from eot.errors import InputError
from local_models.moe.layer import MoELayer
from local_models.moe.parallel import average_gradients, shard


def found(told, rank):
    layer = MoELayer(told["sizes"], told["router"], capacity=told["capacity"], dispatch=told["dispatch"])
    layer.load_state_dict(told["weights"])
    try:
        shard(layer)
    except InputError as refused:
        return str(refused)
    x = told["x"][rank].requires_grad_()
    y, route = layer(x)
    ((y * told["dy"][rank]).sum() + route.loss).backward()
    average_gradients(layer)
    grads = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {"y": y.detach(), "dx": x.grad, "grads": grads, "overflow": route.overflow}


if __name__ == "__main__":
    path, rank, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{path}.meet", rank=rank, world_size=size)
    cases = torch.load(path, weights_only=False)
    torch.save({name: found(told, rank) for name, told in cases.items()}, f"{path}.{rank}")
    distributed.destroy_process_group()
