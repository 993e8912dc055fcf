"""Models on Ray Serve, which places, heals and updates their replicas.

Before any replica starts, `placing` has a table to follow and a door that expects it, and `room`
says whether the cluster holds it; `hosting` is what Ray Serve runs.
"""
