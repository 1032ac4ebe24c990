"""One file per other column of the tables; `arq_core.methods` lists them."""
