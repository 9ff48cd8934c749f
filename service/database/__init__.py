"""Engine, base, tenancy and the embedded server."""
