"""What every region in a box shares: durable records, faults, the request log, the control endpoint and the server.

A region is an API (`emulators.oxide` and its siblings) on top of these parts. Nothing here knows any cloud's words.
"""
