"""`python -m peewit_clients.cli`, the same as `peewit`."""

from peewit_clients.cli import main

main()
