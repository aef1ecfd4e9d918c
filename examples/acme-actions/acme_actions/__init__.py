"""Recovery actions of Acme's own."""
