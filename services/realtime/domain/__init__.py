"""Values and rules of realtime, by noun.

channels  what there is to watch, and who may
history   positions, and when nothing was missed
live      what a fact becomes on a channel
presence  leases and what they add up to
"""
