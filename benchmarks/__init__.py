"""Programs that measure. Each one records the machine and the data of its figures."""
