"""The page `results/report.html`: what came out, claim by claim, in one file that needs no network."""
