"""`build-all`: a whole fleet, or a part of it, parents before what is made from them.

As a flow on a server it starts the deployments of the definitions; as `python -m flows.build_all` it builds the files
of a directory in its own process. What can be side by side is; what is made after a build that failed is not built.
"""
