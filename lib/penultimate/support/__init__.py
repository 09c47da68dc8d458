"""What the method's modules stand on: files, pictures, processes, memory, numbers for people. Nothing of the paper is in here."""
