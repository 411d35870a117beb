"""Commands for people: ask and change a running TraceHub over its HTTP interface."""
