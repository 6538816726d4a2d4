"""How long a step of REINFORCE, of reparameterization and of Renyi's bound takes beside pyro's.

    python tests/benchmarks/estimators.py

Bayesian logistic regression, 10 weights and 200 data points, a diagonal Gaussian q, 16 draws a step, Adam: a step is drawing,
log p, the gradient estimate and the update. pyro's steps are its `SVI` with Trace_ELBO (reparameterized, and with draws that
cannot be) and RenyiELBO, particles vectorized, arguments not validated. Bare steps are hand-written. One thread: the tensors
are tiny. Writes book/results/gradients.benchmark.json.
"""

import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

import torch
from harness import Timed, in_turn, store, table
from torch import Tensor
from torch.nn import functional

from vaecourse import fvi, gradients
from vaecourse.distributions import Normal

DIM, DATA, DRAWS, ALPHA = 10, 200, 16, 0.5
START, BLOCK, ROUNDS = 20, 200, 15

noise = torch.Generator().manual_seed(0)
X = torch.randn(DATA, DIM, generator=noise)
Y = (torch.rand(DATA, generator=noise) < (X @ torch.randn(DIM, generator=noise)).sigmoid()).float()


def log_joint(w: Tensor) -> Tensor:
    """log p(y, w) in nats for weights (draws, dim)."""
    logits = w @ X.T
    return (Y * logits - functional.softplus(logits)).sum(-1) - 0.5 * (w**2).sum(-1) - 0.919 * DIM


def block(step: Callable[[], None]) -> float:
    for _ in range(START):
        step()
    started = time.perf_counter()
    for _ in range(BLOCK):
        step()
    return (time.perf_counter() - started) / BLOCK


def q_and_adam() -> tuple[Normal, torch.optim.Adam]:
    mu, log_sigma = torch.zeros(DIM, requires_grad=True), torch.zeros(DIM, requires_grad=True)
    return Normal(mu, log_sigma), torch.optim.Adam([mu, log_sigma], lr=1e-2)


def by_estimator(estimator) -> float:
    """A step with an estimator of `gradients` or `fvi`, whose gradient is put in place by hand."""
    q, adam = q_and_adam()
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        z = q.sample(generator, shape=(DRAWS,)).detach()
        gradient = estimator(q, log_joint, z).gradient.mean(0)
        q.mu.grad, q.log_sigma.grad = -gradient[..., 0], -gradient[..., 1]
        adam.step()

    return block(step)


def bare(kind: str) -> float:
    q, adam = q_and_adam()

    def step() -> None:
        eps = torch.randn(DRAWS, DIM)
        z = q.mu + q.log_sigma.exp() * eps
        if kind == "score":
            z = z.detach()
        log_q = (-0.5 * ((z - q.mu) * (-q.log_sigma).exp()) ** 2 - q.log_sigma - 0.919).sum(-1)
        if kind == "score":
            with torch.no_grad():
                f = log_joint(z) - log_q
            loss = -(f * log_q).mean()
        elif kind == "renyi":
            log_w = log_joint(z) - log_q
            loss = -((1 - ALPHA) * log_w).logsumexp(0) / (1 - ALPHA)
        else:
            loss = -(log_joint(z) - log_q).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    return block(step)


def pyro_steps() -> dict[str, Timed]:
    """Pyro's equivalents; raises ImportError where it is not installed."""
    import pyro
    import pyro.distributions as dist
    from pyro.infer import SVI, RenyiELBO, Trace_ELBO

    pyro.enable_validation(False)

    def run(normal: type, elbo) -> float:
        pyro.clear_param_store()

        def model():
            w = pyro.sample("w", dist.Normal(torch.zeros(DIM), torch.ones(DIM)).to_event(1))
            logits = w @ X.T if w.ndim == 1 else (w @ X.T).squeeze(-2)
            pyro.sample("y", dist.Bernoulli(logits=logits).to_event(1), obs=Y)

        def guide():
            mu, log_sigma = pyro.param("mu", torch.zeros(DIM)), pyro.param("log_sigma", torch.zeros(DIM))
            pyro.sample("w", normal(mu, log_sigma.exp()).to_event(1))

        svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-2}), elbo)
        return block(lambda: svi.step())

    class Score(dist.Normal):
        has_rsample = False

    trace = partial(Trace_ELBO, num_particles=DRAWS, vectorize_particles=True)
    renyi = partial(RenyiELBO, alpha=ALPHA, num_particles=DRAWS, vectorize_particles=True)
    name = f"pyro {version('pyro-ppl')}"
    return {
        f"score function, {name}": lambda: run(Score, trace()),
        f"reparameterized, {name}": lambda: run(dist.Normal, trace()),
        f"renyi, {name}": lambda: run(dist.Normal, renyi()),
    }


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps: dict[str, Timed] = {
        "score function, bare": lambda: bare("score"),
        "score function, vaecourse": lambda: by_estimator(gradients.reinforce),
        "reparameterized, bare": lambda: bare("path"),
        "reparameterized, vaecourse": lambda: by_estimator(gradients.reparameterized),
        "renyi, bare": lambda: bare("renyi"),
        "renyi, vaecourse": lambda: by_estimator(partial(fvi.renyi_gradient, alpha=ALPHA)),
    }
    try:
        steps |= pyro_steps()
    except ImportError:
        print("pyro is not installed: pip install pyro-ppl==1.9.2 to have it in the table")
    times = in_turn(steps, ROUNDS, "steps")
    rows = []
    for kind in ("score function", "reparameterized", "renyi"):
        own = {name: t for name, t in times.items() if name.startswith(kind)}
        rows += table(own, f"{kind}, bare")
    store("gradients", {"dim": DIM, "data": DATA, "draws": DRAWS, "alpha": ALPHA, "rounds": ROUNDS}, rows)


if __name__ == "__main__":
    main()
