"""What outlives the process: all SQL, on SQLite or PostgreSQL."""
