"""The calls this service answers: SchedulerService and DeadLettersService."""
