"""Remove train clusters that are similar to held-out ones; search what is left again, and align a sample exactly."""
