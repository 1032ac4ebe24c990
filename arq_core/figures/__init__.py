"""The book's figures, by chapter; `style` is their one look.

Each draws or words what it is given.
"""
