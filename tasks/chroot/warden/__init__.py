"""The program that keeps a jail: started once per jail, with the standard library alone.

Its process stands outside the jail's PID namespace and inside its mount namespace. What it does in the jail, it does in
short-lived children, so that an operation is cancelled by killing a process and nothing waits for anything else.

    builder ── line (socket) ── keeper ── pid 1 of the jail
                                  ├────── supervisor ── command
                                  └────── operation (mount, copy, …)
"""
