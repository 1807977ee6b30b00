"""Decides when jobs run, sees each run to its end, and keeps what left processing by failure.

owns        schedules, fires, runs, attempts, dead letters, replays (database timeloom_schedules)
serves      SchedulerService, DeadLettersService
announces   work.v1.<service>.<job>: WorkItem, jobs.v1.<org>: RunChanged; replays of dead letters
listens to  reports, dead letters, accounts, its share of work
"""
