"""python -m penultimate"""

from .cli import main

main()
