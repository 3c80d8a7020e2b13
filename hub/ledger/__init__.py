"""What was used, taken from the record: sums of uses, counts of the present periods, alerts of budgets."""
