"""The largest values of a search. The help of commands shows them, so nothing heavy is imported."""

MAXIMUM_CANDIDATES = 100
MAXIMUM_PROBES = 1000
MAXIMUM_MEAN_OF = 100
