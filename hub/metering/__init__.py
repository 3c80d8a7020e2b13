"""Counting uses and money against limits and budgets."""
