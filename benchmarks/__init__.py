"""Speed, measured against peers in the same run; never asserted in a test.

| command | module | measures |
|---|---|---|
| `make bench` | `run` | the product beside PostGraphile and the obvious Strawberry server |
| `make bench-growth` | `growth` | latency at 10 times the events |
| `make bench-batch` | `batch` | durable events a second through `logEvents` |
| `make bench-memory` | `memory` | the server's memory after ten times the requests |
| `make bench-workers` | `workers` | what a second worker process brings |
"""
