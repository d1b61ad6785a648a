# The workflow lies where the workflow catalog and `module:` look for it. An include does not pass on its default target.
include: "workflow/Snakefile"


workflow.default_target = "all"
