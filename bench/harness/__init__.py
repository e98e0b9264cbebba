"""What every bench is made of: contenders that take turns, the servers they need, a report."""
