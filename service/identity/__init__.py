"""The verbs: enroll, recognize, verify, import, export, evaluate. They hold no connection while a model works."""
