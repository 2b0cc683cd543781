"""How long tests wait for what must come."""

# The machine may stall for many seconds at the worst moment. What comes is waited for no longer than it takes.
PATIENCE_SECONDS = 60.0
