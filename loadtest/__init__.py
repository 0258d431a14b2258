"""Load and benchmarks from the outside: real Yjs peers over real sockets. Never imports the server."""
