"""Recipes of the datasets that we collect ourselves, with the planners, operators and gaits that
act in them.
"""
