"""realtime on the real NATS and Valkey."""
