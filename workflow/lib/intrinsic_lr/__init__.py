"""Ensemble training and analyses for the intrinsic learning rate study (Li, Lyu, Arora 2020)."""
