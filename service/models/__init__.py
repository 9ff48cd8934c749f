"""Model files on disk: packs, catalog, installing, verifying, and the MXNet converter. No request waits for them."""
