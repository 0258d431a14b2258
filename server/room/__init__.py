"""The room machine: inputs in, effects out, time passed in. See docs/ARCHITECTURE.md."""
