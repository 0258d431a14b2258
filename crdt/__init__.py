"""Yjs bytes and documents: strict parsing, the gate in front of pycrdt, and the document behind it. Pure: no clock, no I/O."""
