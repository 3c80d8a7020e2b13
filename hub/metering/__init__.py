"""Counting uses and money against limits and budgets, and the ledger of both."""
