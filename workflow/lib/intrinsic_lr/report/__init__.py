"""The page `results/report.html`: the results, claim by claim, in one file that needs no network."""
