"""python -m penultimate"""

import sys

try:
    from .commands.cli import main
except KeyboardInterrupt:  # PyTorch takes seconds to import; nothing was begun
    sys.exit(130)

main()
