"""The journal: what a node has promised to keep, in SQLite. See docs/ARCHITECTURE.md, section Journal."""
