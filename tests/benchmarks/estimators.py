"""How long a step of REINFORCE, of reparameterization and of Renyi's bound takes beside pyro's and numpyro's.

    python tests/benchmarks/estimators.py

Bayesian logistic regression, 10 weights and 200 data points, a diagonal Gaussian q, 16 draws a step, Adam: a step is drawing,
log p, the gradient estimate and the update. pyro's steps are its `SVI` with Trace_ELBO (reparameterized, and with draws that
cannot be) and RenyiELBO, particles vectorized, arguments not validated. numpyro's are the same, its `update` compiled by jax
before the clock starts; its ELBO chooses reparameterization wherever it can. Bare steps are hand-written. One thread: the
tensors are tiny. Writes book/results/gradients.benchmark.json.
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


def numpyro_steps() -> dict[str, Timed]:
    """Numpyro's equivalents, compiled; raises ImportError where it is not installed."""
    import jax
    import numpyro
    import numpyro.distributions as dist
    from numpyro.infer import SVI, RenyiELBO, Trace_ELBO

    x, y = X.numpy(), Y.numpy()

    def run(elbo) -> float:
        def model():
            w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([DIM]).to_event(1))
            numpyro.sample("y", dist.Bernoulli(logits=x @ w).to_event(1), obs=y)

        def guide():
            mu, log_sigma = (numpyro.param(name, jax.numpy.zeros(DIM)) for name in ("mu", "log_sigma"))
            numpyro.sample("w", dist.Normal(mu, jax.numpy.exp(log_sigma)).to_event(1))

        svi = SVI(model, guide, numpyro.optim.Adam(1e-2), elbo)
        update, state = jax.jit(svi.update), svi.init(jax.random.PRNGKey(0))

        def step() -> None:
            nonlocal state
            state, loss = update(state)
            loss.block_until_ready()

        return block(step)

    name = f"numpyro {version('numpyro')}"
    return {
        f"reparameterized, {name}": lambda: run(Trace_ELBO(num_particles=DRAWS)),
        f"renyi, {name}": lambda: run(RenyiELBO(alpha=ALPHA, num_particles=DRAWS)),
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
    for peers in (pyro_steps, numpyro_steps):
        try:
            steps |= peers()
        except ImportError as error:
            print(f"{error.name} is not installed: pip install -e .[bench] to have it in the table")
    times = in_turn(steps, ROUNDS, "steps")
    rows = []
    for kind in ("score function", "reparameterized", "renyi"):
        own = {name: t for name, t in times.items() if name.startswith(kind)}
        rows += table(own, f"{kind}, bare")
    store("gradients", {"dim": DIM, "data": DATA, "draws": DRAWS, "alpha": ALPHA, "rounds": ROUNDS}, rows)


if __name__ == "__main__":
    main()
