"""Write a page with each figure that computes in the page, over models trained here for a few minutes, to look at in a browser.

python tests/book/show_explorables.py page.html
"""

import sys
from functools import partial
from pathlib import Path

import torch
from torch import nn

from vaecourse import autoencoders, beta_vae, datasets, explorable, priors, training, vae, vq_vae

HEAD = """<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Figures that compute in the page</title><style>
:root { --pst-color-text-base: #222832; --pst-color-background: #fff; --pst-color-surface: #f3f4f5;
  --pst-color-border: #c9c9c9; --pst-color-primary: #0a7d91; --pst-color-text-muted: #48566b; }
:root[data-theme=dark] { --pst-color-text-base: #ced6dd; --pst-color-background: #14181e; --pst-color-surface: #222832;
  --pst-color-border: #48566b; --pst-color-primary: #3fb1c5; --pst-color-text-muted: #9ca4af; color-scheme: dark; }
body { margin: 0 auto; padding: 0 16px; max-width: 760px; background: var(--pst-color-background);
  color: var(--pst-color-text-base); font-family: sans-serif; }
h2 { margin: 2rem 0 0.6rem; font-size: 1.1rem; }
</style><main>"""


def fit(model: nn.Module, x: torch.Tensor, steps: int, rate: float) -> nn.Module:
    """The model, trained."""
    adam = partial(torch.optim.Adam, lr=rate)
    training.fit(model, x, steps=steps, batch_size=100, optimizer=adam, progress=False, device="cpu")
    return model


def figures() -> dict[str, object]:
    """Each figure by its heading."""
    digits, mnist = datasets.load("digits"), datasets.load("mnist5k")
    small = fit(vae.gaussian_vae(64, 2, log_sigma=-1.5), digits.train, 1500, 2e-3)
    code = fit(autoencoders.deep(64, 2), digits.train, 1500, 2e-3)
    several = fit(vae.bernoulli_vae(64, 8, kind=beta_vae.BetaVAE, beta=1.0), digits.train, 1000, 2e-3)
    prior = fit(priors.contrastive_prior(small), digits.train, 500, 1e-3)
    words = fit(vq_vae.conv_vq_vae((1, 28, 28), 64, 8, halvings=2, width=24, revive_below=0.05), mnist.train, 500, 2e-3)
    large = vae.bernoulli_vae(784, 2, hidden=(128,))
    fit(large, mnist.train, 1200, 2e-3)
    with torch.no_grad():
        codes = small.encode(digits.train).mean
        many = several.encode(digits.test[:8]).mean
    shaded = {"background": explorable.on_plane(prior.log_ratio, 4.0), "background_name": "log r"}
    pad = {"shape": digits.shape, "images": digits.train, "labels": digits.train_labels}
    return {
        "A plane with a background": explorable.latent_plane(
            small, digits.shape, "A plane.", codes, digits.train_labels, reach=4.0, **shaded
        ),
        "Eight latents": explorable.latent_plane(several, digits.shape, "Eight sliders.", many),
        "A learned prior": explorable.langevin(
            alt="Chains.", potential=explorable.on_plane(prior.potential, 4.0), reach=4.0, step=0.02
        ),
        "Words": explorable.code_grid(words, words.codes(mnist.test[:6]), mnist.shape, "A grid of words."),
        "Draw, VAE of 8 x 8": explorable.sketchpad(small, alt="A place to draw.", **pad),
        "Draw, autoencoder": explorable.sketchpad(code, alt="A place to draw.", **pad),
        "Draw, VAE of 28 x 28": explorable.sketchpad(
            large, mnist.shape, mnist.train, "A place to draw.", labels=mnist.train_labels
        ),
    }


if __name__ == "__main__":
    parts = [f"<h2>{name}</h2>{figure._repr_html_()}" for name, figure in figures().items()]
    Path(sys.argv[1]).write_text(HEAD + "".join(parts) + "</main></html>", "utf-8")
