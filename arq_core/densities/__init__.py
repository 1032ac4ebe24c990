"""Behaviours whose density is known in closed form, and how near a model of them is: Figure A.1 and
what hangs on it.

Reading order: segments, diffused, normal, mixture, distances, quality, sharpness, figure_a1. It
builds on the algorithm; no data, no simulators.
"""
