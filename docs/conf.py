"""Settings of the documentation's site, which `make docs` builds into site/ with warnings as errors."""

import html
import io

from docutils import nodes
from matplotlib import font_manager, mathtext

project = "The intrinsic learning rate, reproduced"
author = "The intrinsic-lr reproduction authors"
extensions = ["myst_parser"]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
nitpicky = True

html_theme = "furo"
html_title = project
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_math_renderer = "mathtext"


def write_math(translator, node):
    """Write a formula as an inline SVG by matplotlib: the site loads no script from elsewhere."""
    formula, block = node.astext(), isinstance(node, nodes.math_block)
    image, font = io.StringIO(), font_manager.FontProperties(size=12)
    drawn = formula.replace(r"\frac", r"\dfrac") if block else formula
    depth = mathtext.math_to_image(f"${drawn}$", image, font, dpi=96, format="svg")
    svg = image.getvalue().partition("<svg")[2].rstrip()
    style = f"overflow: visible; height: auto; max-width: 100%; fill: currentColor; vertical-align: {-depth:.1f}px"
    shown = f'<svg role="img" aria-label="{html.escape(formula)}" style="{style}"{svg}'
    translator.body.append(f"<p>{shown}</p>" if block else shown)
    raise nodes.SkipNode


def setup(app):
    """Register the renderer of formulas."""
    app.add_html_math_renderer("mathtext", (write_math, None), (write_math, None))
