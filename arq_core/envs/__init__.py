"""Simulators as vectors of episodes.

The protocol, and the error of all of them, are in `vector`; it imports no other room.
"""
