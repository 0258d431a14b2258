"""Who is here: the awareness codec and the roster of one room. Pure: no clock, no I/O, no pycrdt."""
