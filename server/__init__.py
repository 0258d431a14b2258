"""The node: settings, journal, room actors, sockets, HTTP. What decides lives in `server.room`; the rest waits."""
