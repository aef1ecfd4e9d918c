"""What runs when, on which queue, and when it expires: a bare table."""
