"""How long everything takes that users wait for, and how far that is from what the machine can do."""
