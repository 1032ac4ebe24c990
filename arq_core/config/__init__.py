"""What is chosen, what it is called, where it lies: hyperparameters and budgets, tasks, labels,
paths, files. It needs no torch.

Reading order: hyper, settings, tasks, labels, paths, files. It imports no other room.
"""
