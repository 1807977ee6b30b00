"""Rules of realtime, without its stores."""
