"""What one update costs a server, measured from the outside and side by side with y-websocket's own server.

`python -m loadtest.bench` starts each server fresh for each run, in turns, on a core of its own, loads it with raw
sockets from one cheap process on another core, and prints CPU per delivery, latency and memory.
"""
