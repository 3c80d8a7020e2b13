"""State that lives in this process and may be lost: announcements, sessions, leases, revocations."""
