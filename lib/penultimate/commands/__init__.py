"""The command line, `python -m penultimate`: one module a command, and what commands share."""
