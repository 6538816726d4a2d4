"""The words that stand for a figure where it cannot be seen."""


def check_alt(alt: str, what: str) -> None:
    """Raise ValueError where there are none."""
    if not alt.strip():
        raise ValueError(
            f"alt is missing: say in a sentence or two what {what} shows, for a reader who cannot see it, for instance "
            '"The latent plane of a VAE trained on digits; ones lie at the lower right, zeros at the top."'
        )
