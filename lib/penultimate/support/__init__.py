"""What the method's modules stand on: files, pictures, processes, progress, numbers for people. Nothing of the paper is in here."""
