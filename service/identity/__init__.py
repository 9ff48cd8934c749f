"""The operations: enroll, recognize, verify, import, export, evaluate. No connection is held during inference."""
