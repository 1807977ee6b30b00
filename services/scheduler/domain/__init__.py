"""What schedules, runs and dead letters are, as values and pure functions."""
