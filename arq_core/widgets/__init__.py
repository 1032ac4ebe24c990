"""Figures that one can handle: without a kernel in a built page, with one in a notebook."""
