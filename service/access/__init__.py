"""Tenants, API keys, scopes, rate limits and quotas."""
