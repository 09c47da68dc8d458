"""Side-by-side measurements; each prints its figures and the environment they were taken in."""
