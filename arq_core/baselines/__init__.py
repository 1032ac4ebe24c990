"""What ARQ is compared with, learned: explicit clones, critics with a penalty of Table 1, a uniform
proposal. No method knows another.
"""
