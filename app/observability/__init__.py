"""What operators see of a running server: log lines and metrics."""
