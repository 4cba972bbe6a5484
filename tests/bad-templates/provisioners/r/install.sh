# Never run: the templates here are not built.
