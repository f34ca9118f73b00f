"""The paper's claim on memory: 8 instead of 16 TPU v4 chips for ViT-B/16 at batch 4,096.

A chip holds weights, gradients and optimizer state whole, and its share of the batch; the paper
stores the first moment of both optimizers in bfloat16. What is left decides how many bytes an image
may take, and that is compared with what is counted here for a GPU (fused attention, float32 layer
norms). A TPU's compiler keeps other things, so the count is a yardstick, no prediction.

Source: arXiv:2302.06675, section 3.2; cloud.google.com/tpu/docs/v4 for the memory of a chip.
"""

from __future__ import annotations

from typing import Any

from experiments.config import RunConfig
from experiments.planner import model_facts
from experiments.planner.memory import Activations
from experiments.planner.stand_ins import task_without_data
from experiments.planner.trial import Blank

CHIP_BYTES = 32 * 2**30
BYTES_A_WEIGHT = {
    "two moments": 2 + 4,  # bfloat16 and float32
    "one momentum": 2,  # bfloat16
}
"""Of optimizer state: AdamW's, and Lion's."""
CHIPS = (8, 16)


def work_out(config: RunConfig) -> list[dict[str, Any]]:
    """A row for each kind of state and number of chips.

    Args:
        config: Of ViT-B/16 at the batch size of the claim.
    """
    blank = Blank(task_without_data(config), config, on_gpu=True)
    size = 8
    trials = [blank.trial(number, True) for number in (size, 2 * size)]
    line = Activations.through({n * size: t.activations for n, t in enumerate(trials, 1)})
    number = model_facts.num_params(blank.model)
    rows = []
    for state, each in BYTES_A_WEIGHT.items():
        for chips in CHIPS:
            kept = number * (4 + 4 + each) + trials[0].cast_weights
            images = config.train.batch_size // chips
            may = (CHIP_BYTES - kept) / images
            rows.append(
                {
                    "state": state,
                    "chips": chips,
                    "images_a_chip": images,
                    "bytes_without_images": kept,
                    "bytes_an_image_may_take": round(may),
                    "bytes_an_image_counted": round(line.each),
                    "fits": line.each <= may,
                }
            )
    return rows
