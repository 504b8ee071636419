"""An OUTSCALE region in a box, and the VM that this machine is in it.

Three layers: `app` and `actions` (which request is what), `bodies`, `filters` and `wire` (what goes over the wire), and
the rest (what exists and how it changes). `devices` makes volumes block devices of this machine. The rules come from
the API's OpenAPI document 1.42.0, its error table and the vendor's documentation.
"""
