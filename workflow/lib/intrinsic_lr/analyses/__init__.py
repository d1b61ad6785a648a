"""What is computed of an experiment's trained ensembles."""
