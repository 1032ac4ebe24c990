"""Theorem 1 and Table 1, exact: what direct Q-penalisation does, and what each penalty costs an
action that nobody tried.

Reading order: theorem1, penalties, bandits, penalty_study.
"""
