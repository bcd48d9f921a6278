"""`python -m eightfold` is the command line."""

from .cli.main import main

main()
