"""Estimators and formulas: arrays in, numbers out."""
