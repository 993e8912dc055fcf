"""The versions a replica holds: each loaded and warmed up, as many as memory has room for.

The arms of the traffic table say which version answers a request.
"""
