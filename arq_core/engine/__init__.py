"""How it is computed, without a formula of the paper: random streams, the machine, the training
loop, what is kept of a step.

Reading order: streams, machine, train, store, filestore. It imports no room but the configuration.
"""
