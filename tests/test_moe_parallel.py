"""Experts spread over two real processes (gloo) against the same layer in one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra eot[torch]")
from local_models.moe import routers  # noqa: E402
from local_models.moe.capacity import Capacity  # noqa: E402
from local_models.moe.feed_forward import Sizes  # noqa: E402
from local_models.moe.layer import MoELayer  # noqa: E402

pytestmark = pytest.mark.torch
HIDDEN, SIZE = 16, 2
HERE = Path(__file__).parent
SETTINGS = {  # dispatch, capacity, each process's tokens
    "grouped": ("grouped", None, (9, 14)),
    "with a capacity": ("eager", Capacity(train=((0, 0.5),)), (12, 12)),
    "one process idle": ("grouped", None, (0, 5)),
}


def case(dispatch, capacity, tokens, experts=4):
    layer = MoELayer(Sizes(HIDDEN, 24, experts, shared=8), routers.Mixtral(balance=0.1), capacity=capacity)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return {
        "sizes": layer.sizes,
        "router": layer.router,
        "capacity": capacity,
        "dispatch": dispatch,
        "weights": layer.state_dict(),
        "x": [torch.randn(count, HIDDEN) for count in tokens],
        "dy": [torch.randn(count, HIDDEN) for count in tokens],
    }


@pytest.fixture(scope="module")
def cases():
    torch.manual_seed(0)
    uneven = case("grouped", None, (1, 1), experts=3)
    return {name: case(*settings) for name, settings in SETTINGS.items()} | {"uneven": uneven}


@pytest.fixture(scope="module")
def found(cases, tmp_path_factory):
    """What each of two processes finds, by case."""
    path = tmp_path_factory.mktemp("moe") / "cases"
    torch.save(cases, path)
    paths = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    words = [sys.executable, HERE / "moe_process.py", path]
    logs = [Path(f"{path}.{rank}.log") for rank in range(SIZE)]
    started = []
    for rank, log in enumerate(logs):
        with log.open("w") as file:
            started.append(subprocess.Popen([*words, str(rank), str(SIZE)], env=environment, stderr=file))
    try:
        codes = [process.wait(timeout=120) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert codes == [0] * SIZE, [log.read_text() for log in logs]
    return [torch.load(f"{path}.{rank}") for rank in range(SIZE)]


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_find_what_one_finds(cases, found, name):
    told, halves = cases[name], [one[name] for one in found]
    layer = MoELayer(told["sizes"], told["router"], capacity=told["capacity"], dispatch=told["dispatch"])
    layer.load_state_dict(told["weights"])
    for half, rows, slopes in zip(halves, told["x"], told["dy"], strict=True):  # the mean of the two losses
        x = rows.clone().requires_grad_()
        y, route = layer(x)
        (((y * slopes).sum() + route.loss) / SIZE).backward()
        torch.testing.assert_close(half["y"], y.detach())
        torch.testing.assert_close(half["dx"], x.grad * SIZE)
        assert half["overflow"] == route.overflow
        assert (route.overflow > 0) == (told["capacity"] is not None)
    for key, parameter in layer.named_parameters():
        grads = [half["grads"][key] for half in halves]
        if key.startswith("experts."):
            torch.testing.assert_close(torch.cat(grads), parameter.grad)
        else:
            torch.testing.assert_close(grads, [parameter.grad] * SIZE)


def test_experts_that_cannot_be_spread_evenly_are_refused(found):
    assert [one["uneven"] for one in found] == ["3 experts cannot be spread evenly over 2 processes"] * SIZE
