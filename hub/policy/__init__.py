"""Who may do what: one pure decision over compiled tables."""
