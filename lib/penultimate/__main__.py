"""python -m penultimate"""

from .commands.cli import main

main()
