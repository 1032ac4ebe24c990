"""Datasets of our own, where the published files cannot be had: each by a recipe that anyone can run again to the same bytes."""
