"""Search by this service and by what else one could take: same people, same probes, same machine, one run."""
