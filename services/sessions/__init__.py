"""Turns activity into sessions and days.

owns        timeline, sessions and days of every person (database timeloom_work)
serves      SessionsService
announces   sessions.v1.<partition>.<org>: TimeChanged
listens to  activity, accounts, its share of work
"""
