"""Baselines, against which the papers' algorithms are measured."""
