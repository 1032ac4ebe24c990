"""One row of a table, from a name to rows: prepare, train, measure.

Reading order: experiment, methods, episodes, own_task, figure_a1, random_scores.
"""
