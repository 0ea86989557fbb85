"""Our SGD against torch's, bit for bit; and with it a run never imports torch's compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from dc_hpc.algorithm.backends.sgd import SGD


def net(seed):
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.ReLU(), nn.Linear(48, 7))
    made[0].bias.requires_grad_(False)
    return made


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.1, 1e-3), (0.9, 1e-4)])
@pytest.mark.parametrize("fused", [True, False])
def test_steps_are_torchs(momentum, weight_decay, fused):
    ours, theirs = net(0), net(0)
    constants = {"lr": 0.05, "momentum": momentum, "weight_decay": weight_decay}
    one, other = SGD(ours.parameters(), **constants), torch.optim.SGD(theirs.parameters(), **constants, fused=fused)
    for step in range(5):
        one.lr = other.param_groups[0]["lr"] = 0.05 / (1 + step)
        for trained, optimizer in ((ours, one), (theirs, other)):
            optimizer.zero_grad()
            images = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(step))
            trained(images).square().sum().backward()
            optimizer.step()
    for mine, reference in zip(ours.parameters(), theirs.parameters()):
        # torch's own two ways differ in the last bits: one multiplies and adds at once
        torch.testing.assert_close(mine, reference, rtol=0, atol=0 if fused else 1e-6)
        buffer = other.state.get(reference, {}).get("momentum_buffer")
        assert (mine in one.velocity) == (buffer is not None)
        if buffer is not None:
            torch.testing.assert_close(one.velocity[mine], buffer, rtol=0, atol=0 if fused else 1e-5)


def test_a_parameter_without_a_gradient_stays_and_may_come_later():
    ours, theirs = [nn.Parameter(torch.ones(2)) for _ in range(2)], [nn.Parameter(torch.ones(2)) for _ in range(2)]
    constants = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    for parameters, optimizer in ((ours, SGD(ours, **constants)), (theirs, torch.optim.SGD(theirs, **constants))):
        for used in (slice(1), slice(2), slice(2)):
            optimizer.zero_grad()
            sum(p.square().sum() for p in parameters[used]).backward()
            optimizer.step()
    assert torch.equal(torch.stack(list(ours)), torch.stack(list(theirs)))
    assert not torch.equal(ours[0], ours[1])


RUN = """
import sys
from pathlib import Path
from support.small_runs import new_run
from dc_hpc.experiment.execution import Execution
from dc_hpc.experiment.run import run
directory = new_run(Path(sys.argv[2]), Path(sys.argv[1]), cycles=2)
run(directory, Execution(sys.argv[1], threads=1))
assert (directory / "result.json").exists()
print([name for name in sys.modules if name.split(".")[0] in ("sympy", "triton") or name.startswith("torch._dynamo")])
"""


def test_a_run_does_not_import_torchs_compiler(digits_root, tmp_path):
    """It takes a second, of a start that should take four."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, digits_root, tmp_path],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout == "[]\n", done.stderr
