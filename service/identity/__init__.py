"""The verbs, the reason the product exists: enroll, recognize, verify, erase."""
