"""Table A.4 as a workflow: what is to be done (`plan`), what it costs (`costs`), who does it
(`driver`, `job`), what is kept of it (`publish`).
"""

# environment variable: the process of the run, for the steps it began on its own machine
