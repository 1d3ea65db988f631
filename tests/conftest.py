"""For every test: Ctrl-C works, also where the suite runs in the background of a shell that ignores SIGINT."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
