"""Real servers for the tests: on loopback, on free ports, in folders of their own."""
