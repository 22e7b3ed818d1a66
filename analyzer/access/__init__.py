"""The access-pattern model: which bytes a kernel moves through each level of memory, from its shapes, tiles and order alone."""
