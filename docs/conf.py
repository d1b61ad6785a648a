"""Settings of the documentation's site, which `make docs` builds into site/ with warnings as errors."""

project = "The intrinsic learning rate, reproduced"
author = "The intrinsic-lr reproduction authors"
extensions = ["myst_parser"]
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = project
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
