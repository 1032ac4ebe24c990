"""The paper: action-restricted Q-learning in ten files, in reading order.

types        what passes between the steps: transitions, candidates with their densities
nets         the few networks, and how their inputs are standardised
sde          the forward process that turns actions into noise, and grids of its time
samplers     the reverse process, one function a solver
likelihood   log beta(a|s) of a score model
behavior     s_psi, the clone of the behaviour policy (Algorithm 1, line 1)
support      N candidates a state, the support among them (Eq. 4) and its K-th largest value
qlearning    the critic that is bootstrapped over the support alone (Eq. 5)
policies     implicit policies (Eq. 6) and those trained by advantage-weighted regression
arq          the whole on one screen

They import the engine, and of the configuration the records of choices (`config.hyper`) alone:
no files, no simulators. Shapes in annotations are checked while the tests run.
"""
