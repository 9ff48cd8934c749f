"""Compares search by this service with other engines: same people, same probes, same machine, one run."""
