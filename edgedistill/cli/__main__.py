"""`python -m edgedistill.cli`, for where the console script is not on the path."""

from edgedistill.cli import main

main()
