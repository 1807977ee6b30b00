"""All SQL of the sessions service, by noun: activity, blocks, days, members, timelines."""
