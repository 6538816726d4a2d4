"""The one training loop: device, progress, history, checkpoints, resume.

A model is an `nn.Module` that says what its loss is (`Model`):

- `loss(batch, generator)` returns a dictionary of scalars: "loss", which is minimized, and any parts to watch;
- a model of several players has `turns()` instead, a list of `Turn`, each with its own loss and parameters, taken in order,
  each with a fresh forward pass. A gradient reaches the parameters of its own turn and no others;
- `after_step(generator)`, optional, is called after each step (moving averages, chains).

A model of images answers to one vocabulary beside it, in all chapters: `ImageModel`.

All randomness comes from the generator, and what must outlive a stop is a parameter or a buffer: so a resumed run equals an
uninterrupted one.

Several GPUs, or several machines: start the same script with `torchrun --nproc-per-node 4 script.py`. Each process takes
`batch_size` points a step, and the run is that of one process with batches `processes.count()` times as large: noise drawn by
`randomness` or `distributions` is that of the whole batch. Sums over a batch, for a moving average, go through
`processes.total`. Process 0 writes the checkpoint.
"""

from vaecourse.training.data import Data
from vaecourse.training.loop import CHECKPOINT_SECONDS, Maker, adam, default_device, fit, train
from vaecourse.training.model import ImageModel, Model, OnePlayer, Players, Turn, turns_of
from vaecourse.training.run import READ_EVERY, CheckpointMismatch, History, Run, TrainingDiverged
from vaecourse.training.schedules import cosine

__all__ = [
    "CHECKPOINT_SECONDS",
    "READ_EVERY",
    "CheckpointMismatch",
    "Data",
    "History",
    "ImageModel",
    "Maker",
    "Model",
    "OnePlayer",
    "Players",
    "Run",
    "TrainingDiverged",
    "Turn",
    "adam",
    "cosine",
    "default_device",
    "fit",
    "train",
    "turns_of",
]
