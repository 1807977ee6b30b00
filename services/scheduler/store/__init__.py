"""All SQL of the scheduler, by noun: schedules, runs, history, attempts, letters, replicas, partitions."""
