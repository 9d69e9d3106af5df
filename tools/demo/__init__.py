"""What the project can do, shown in a minute with what it ships, and what training looks like, in three more."""
