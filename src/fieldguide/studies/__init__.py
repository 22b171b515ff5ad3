"""The book's grids of fits, by subject: what was asked, how one fit is made, how its table is read."""
