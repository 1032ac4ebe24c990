"""What ARQ is compared with, learned: the other columns of Table A.4, explicit clones, critics with
a penalty of Table 1, a uniform proposal; and what policies are worth by the data alone (fqe,
importance). No method knows another.

Reading order: neighbours, networks, bc_mse, bc_gmm, ibc, one_step, transformer, dt, awac,
expectiles, iql, idql, td3_bc, rebrac, bcq, cql, penalised, proxies, penalty_models, clones,
returns, uniform, fqe, importance.
"""
