"""One database: observe, plan, execute, apply."""
