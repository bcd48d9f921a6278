"""The page of a round trip's report: plain HTML that holds its pictures and asks nothing of any network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .heat import HEAT
from .markup import to_html
from .plot import SERIES, draw_lines
from .record import to_texts

FIGURES = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "flip": "FLIP",
    "mean_shift": "Mean shift: R G B",
    "contrast": "Contrast: R G B",
}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1c1c22; --paper: #fcfcfa; --faint: #6a6a74; --line: #d6d6d2;
  --s0: #1f6fb4; --s1: #c2410c; --s2: #15803d; --s3: #7e22ce; --s4: #a16207; --s5: #be185d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6ea; --paper: #17171b; --faint: #a0a0ac; --line: #3c3c44;
  --s0: #7ab8f5; --s1: #fb923c; --s2: #6ee7a0; --s3: #c4a1ff; --s4: #facc5a; --s5: #f9a8d4; } }
* { box-sizing: border-box; }
body { margin: 2rem auto; padding: 0 1rem; max-width: 90rem; font: 15px/1.45 system-ui, sans-serif; }
body { color: var(--ink); background: var(--paper); }
h1, h2 { line-height: 1.2; overflow-wrap: anywhere; } h2 { margin: 3rem 0 .3rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
p, figcaption, .notes { color: var(--faint); } .error { color: var(--s1); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: 1rem; margin: 1rem 0; align-items: start; }
figure { margin: 0; max-width: 34rem; } figcaption { overflow-wrap: anywhere; margin: .2rem 0 .7rem; }
img { width: 100%; margin-bottom: .4rem; height: auto; display: block; border: 1px solid var(--line); }
img.small { image-rendering: pixelated; }
.key { height: 1rem; border: 1px solid var(--line); } .ends { display: flex; justify-content: space-between; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } svg { width: 24rem; max-width: 100%; }
svg text { font-size: 11px; fill: var(--faint); } svg .title { font-size: 13px; fill: var(--ink); } svg .grid { stroke: var(--line); }
svg polyline { fill: none; stroke: currentColor; stroke-width: 2; } svg circle { fill: currentColor; }
.legend span { margin-right: 1.2rem; } .legend span::before { content: "\\25CF\\00A0"; }
"""
SMALL = 256  # a picture with no side longer than this is shown with its pixels as squares
ABOUT = """PSNR, SSIM and FLIP compare 8-bit sRGB with the original. PSNR: decibels over all pixels and channels, more is nearer.
SSIM: Gaussian window of 11x11, sigma 1.5, mean over channels, 1 is equal. FLIP: what an eye sees when the two are flipped, at 67 pixels
a degree, mean over pixels, 0 is equal. Mean shift: mean of the decoded channel less the original's, in levels of 255. Contrast: its
standard deviation over the original's. After the first cycle each encodes what the one before decoded, rounded to 8 bits. Pictures here
may be compressed and made smaller; all figures are of the whole picture."""


def build_page(title: str, parts: Iterable[str]) -> str:
    """The whole document around its parts."""
    looks = "".join(f".s{index} {{ color: var(--s{index}); }}\n" for index in range(SERIES))
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{to_html(title)}</title>'
    policy = f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
    body = "\n".join([f"<h1>{to_html(title)}</h1>", *parts, f"<p>{to_html(' '.join(ABOUT.split()))}</p>"])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}{policy}<style>{STYLE}{looks}</style></head>\n<body>\n{body}\n</body></html>\n'


def build_table(rows: Sequence[Mapping[str, Any]], first: Mapping[str, str]) -> str:
    """Figures, a line each; `first` are the columns before them: key -> heading."""
    heads = "".join(f'<th scope="col">{to_html(name)}</th>' for name in (*first.values(), *FIGURES.values()))
    lines = [f"<tr><td>{'</td><td>'.join(to_html(text) for text in to_cells(row, first))}</td></tr>" for row in rows]
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def to_cells(row: Mapping[str, Any], first: Iterable[str]) -> list[str]:
    texts = to_texts(row)
    return [*(str(row[key]) for key in first), *(texts[key] for key in FIGURES)]


def build_figure(caption: str, *items: str) -> str:
    return f"<figure>{''.join(items)}<figcaption>{to_html(caption)}</figcaption></figure>"


def build_picture(address: str, words: str, size: tuple[int, int]) -> str:
    """A picture as wide as its column; `words` for who cannot see it, `size` the true one."""
    look = ' class="small"' if max(size) <= SMALL else ""
    return f'<img src="{address}" width="{size[0]}" height="{size[1]}" alt="{to_html(words)}"{look}>'


def build_key() -> str:
    """What the colours of an error map mean."""
    colours = ", ".join("#{:02x}{:02x}{:02x}".format(*colour) for colour in HEAT)
    ends = '<div class="ends"><span>FLIP 0: no difference</span><span>1</span></div>'
    return f'<div class="key" style="background: linear-gradient(to right, {colours})"></div>{ends}'


def build_plots(rows: Sequence[Mapping[str, Any]]) -> str:
    """PSNR and FLIP of one picture over its cycles, a line for each autoencoder."""
    names = list(dict.fromkeys(row["autoencoder"] for row in rows))
    legend = "".join(f'<span class="s{index % SERIES}">{to_html(name)}</span>' for index, name in enumerate(names))
    plots = [
        draw_lines(FIGURES[key], {name: [row[key] for row in rows if row["autoencoder"] == name] for name in names})
        for key in ("psnr", "flip")
    ]
    return f'<div class="plots">{"".join(plots)}</div><p class="legend">{legend}</p>'
