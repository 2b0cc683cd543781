"""The sealed log: what makes the trail provable, and gives every event its place in the order of commits."""
