"""Results to look at: tables, pages, pictures, and the papers' rows beside them."""
