"""Cloud regions in a box: what the first run, the tests and the benchmarks talk to.

Nothing here imports the product and the product imports nothing from here. They meet over HTTP, SSH and block
devices only, so that an emulator can never excuse a client.
"""
