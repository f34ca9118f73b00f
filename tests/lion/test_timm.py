"""Lion and timm's Lion interchange: same checkpoints; same trajectory up to rounding (lerp)."""

import pytest
import torch

from lion import Lion
from tests.lion.test_checkpoint import STEPS, fresh_params, resumed, take_steps

timm_optim = pytest.importorskip("timm.optim")


def timm_lion(params, **options):
    return timm_optim.Lion(params, foreach=False, **options)


def timm_foreach(params, **options):
    return timm_optim.Lion(params, foreach=True, **options)


@pytest.mark.parametrize("theirs", [timm_lion, timm_foreach])
@pytest.mark.parametrize("dtype, atol", [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_same_trajectory_straight_and_interchanged_in_the_middle(theirs, dtype, atol):
    straight = Lion(fresh_params(dtype), weight_decay=0.1)
    take_steps(straight, 0, STEPS)
    expected = straight.param_groups[0]["params"]
    for pair in ((theirs, theirs), (theirs, Lion), (Lion, theirs)):
        params = resumed(*pair, dtype, weight_decay=0.1)
        for param, other in zip(params, expected, strict=True):
            torch.testing.assert_close(param, other, rtol=0, atol=atol)


def test_their_cautious_variant_is_refused():
    theirs = timm_optim.Lion(fresh_params(torch.float32), caution=True)
    with pytest.raises(ValueError, match="caution=True"):
        Lion(fresh_params(torch.float32)).load_state_dict(theirs.state_dict())


def test_baselines_are_still_missing_there():
    """The day timm or torch has them, ours should go."""
    names = {name.lower().replace("_", "") for name in timm_optim.list_optimizers()}
    names |= {name.lower() for name in dir(torch.optim)}
    assert not names & {"powersign", "addsign"}
    assert {"adabelief", "adafactorbv"} <= names
