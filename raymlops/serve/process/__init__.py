"""What a serving process has of its machine: memory, connections, its search for garbage."""
