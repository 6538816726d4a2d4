"""Several processes that train as one: who this one is, and sums over all of them.

Started by `torchrun`, each process holds the whole model and the whole data, takes its share of each batch, and gradients
are averaged over all. Outside `torchrun` there is one process, and everything here does nothing.
"""

import atexit
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn


def join() -> None:
    """Join the other processes if `torchrun` started this one: by NCCL where there are GPUs, by Gloo elsewhere."""
    if dist.is_torchelastic_launched() and not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(dist.destroy_process_group)


def count() -> int:
    """How many processes train together; 1 outside `torchrun`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0; process 0 writes files and shows progress."""
    return dist.get_rank() if count() > 1 else 0


def local_gpu() -> int:
    """The number of this process's GPU on its machine, as `torchrun` gives it."""
    return int(os.environ.get("LOCAL_RANK", 0))


class _Sum(torch.autograd.Function):
    """y = sum of x over the processes; each process's x has its part in every process's y, so gradients are summed, too."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


def total(x: Tensor) -> Tensor:
    """The sum of x over all processes, the same in each; differentiable. Moving averages and batch statistics need it."""
    return _Sum.apply(x) if count() > 1 else x


def joined(x: Tensor) -> Tensor:
    """The processes' shares of a batch, (batch, ...) each, put together in order: (processes * batch, ...). No gradient."""
    if count() == 1:
        return x
    parts = [torch.empty_like(x) for _ in range(count())]
    dist.all_gather(parts, x.detach().contiguous())
    return torch.cat(parts)


def share(x: Tensor) -> Tensor:
    """This process's rows of what all processes hold alike: the inverse of `joined`. len(x) must be a multiple of `count()`."""
    rows = len(x) // count()
    return x[rank() * rows : (rank() + 1) * rows]


def any_asks(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process. It waits for the device."""
    if count() == 1:
        return flag
    asked = torch.tensor(float(flag), device=device)
    dist.all_reduce(asked, dist.ReduceOp.MAX)
    return bool(asked.item())


def agree(model: nn.Module) -> None:
    """Give every process the parameters and buffers of process 0."""
    if count() > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def wait() -> None:
    """Go on when every process has come here."""
    if count() > 1:
        dist.barrier()
