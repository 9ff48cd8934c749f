"""What the dialects share: caller and tenant session, problem+json, bounded uploads."""
