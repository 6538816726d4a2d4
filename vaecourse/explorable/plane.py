"""The plane of two coordinates in a page: its frame, its ticks, and room for what lies in it."""

from importlib.resources import files

from matplotlib.ticker import MaxNLocator

LEFT, TOP, SIDE = 44, 10, 400  # where the plane lies in the drawing, and how large it is
WINDOW = f'x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}" viewBox="{LEFT} {TOP} {SIDE} {SIDE}"'
"""The place of a nested drawing that is cut at the plane's edges."""
UNITS = 4000  # along a side: what lies in the plane is drawn to a tenth
MINUS = "\u2212"


def at(z1: float, z2: float, reach: float) -> tuple[int, int]:
    """Where a point of the plane, which goes from -reach to reach, lies in the drawing."""
    return round(LEFT + SIDE * (z1 / reach + 1) / 2), round(TOP + SIDE * (1 - z2 / reach) / 2)


def svg(reach: float, inside: str, above: str, role: str, label: str) -> str:
    """The drawing and its style.

    `inside` is a nested drawing of the plane alone, `above` lies over all; `role` and `label` are what a screen reader says. A
    plane without a role is a picture, which no key moves.
    """
    steered = f'tabindex="0" role="application" data-lm-suppress-shortcuts="true" aria-roledescription="{role}"'
    ticks = [t for t in MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(-reach, reach) if abs(t) <= reach]
    along = {f"{t:g}".replace("-", MINUS): at(t, t, reach) for t in ticks}
    bottom, middle = TOP + SIDE, SIDE / 2
    return f"""\
<style>{files("vaecourse.explorable").joinpath("plane.css").read_text("utf-8")}</style>
<svg class="plane" viewBox="0 0 {LEFT + SIDE + 12} {bottom + 44}" {steered if role else 'role="img"'} aria-label="{label}">
<g class="lines">{"".join(f'<path d="M{x} {TOP}V{bottom}M{LEFT} {y}H{LEFT + SIDE}"/>' for x, y in along.values())}</g>
{inside}
<g>{"".join(f'<text x="{x}" y="{bottom + 17}">{tick}</text>' for tick, (x, _) in along.items())}</g>
<g class="vertical">{"".join(f'<text x="{LEFT - 6}" y="{y}">{tick}</text>' for tick, (_, y) in along.items())}</g>
<text class="axis" x="{LEFT + middle}" y="{bottom + 36}">z₁</text>
<text class="axis" x="15" y="{TOP + middle}">z₂</text>
<rect class="field" x="{LEFT}" y="{TOP}" width="{SIDE}" height="{SIDE}"/>
{above}
</svg>"""
