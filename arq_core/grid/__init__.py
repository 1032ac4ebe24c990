HEAD = "ARQ_GRID_HEAD"           # environment variable: the process of the run, for the steps it began on its own machine
