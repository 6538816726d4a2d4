"""The average of a generator over its training, which circles about what it looks for."""

from copy import deepcopy

from torch import nn

from vaecourse.networks import move_average


class Average(nn.Module):
    """A network's weights, averaged with that decay a step; none where the decay is 0.

    Yazici et al. (2019). Raises ValueError where the decay is not in [0, 1).
    """

    def __init__(self, network: nn.Module, decay: float):
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of an average must be in [0, 1), got {decay}")
        self.decay = decay
        self.network = deepcopy(network).requires_grad_(False) if decay else None

    def follow(self, network: nn.Module) -> None:
        """Move towards what the network is now."""
        if self.network is not None:
            move_average(self.network, network, self.decay)

    def of(self, network: nn.Module) -> nn.Module:
        """The average; the network itself where none is kept."""
        return network if self.network is None else self.network
